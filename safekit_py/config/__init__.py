"""Bytes -> safe XML -> macros -> schema -> frozen model, or every error at once with its line."""
