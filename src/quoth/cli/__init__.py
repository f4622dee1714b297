"""The command line: parse, build, call. One module a command; `quoth --help` imports none of them."""
