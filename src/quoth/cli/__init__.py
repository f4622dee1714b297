"""The command line. Each command is a module that parses its arguments, builds what they name, and calls it."""
