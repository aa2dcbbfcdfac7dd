"""What the machine gives: processes, memory, files."""
