"""Sources and an encoding -> a corpus folder of encoded songs."""
