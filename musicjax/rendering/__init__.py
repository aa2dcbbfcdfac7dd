"""Songs -> what people see."""
