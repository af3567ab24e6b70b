"""The fresh interpreter in which the project's code builds a template, and its supervision.

`parent` starts the interpreter and talks to it over pipes; `child` is the program that runs there.
`dependency_recorder` and `variable_recorder` observe which files, modules and environment variables the code uses.
They make the manifest of the template. `connection_guard` refuses connections to any database but the template.

The room must not know where steps were configured, nor how templates are found, published or dropped.

    process = BuildProcess(steps, root)           # starts to import at once, while the server still starts
    manifest = process.run(target, declared=[])   # runs the steps, and returns what they used
"""
