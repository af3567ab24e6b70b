"""Templates: the inputs that one is made from, and how it is found, built, published and retired.

A template is a database that the databases of tests are copied from. `builder` tells the story of one; `store` has
its SQL. A `recipe` declares the inputs (`fingerprint`) and builds the schema. The `manifest` has what the build was
seen to use besides.

The room must not know kinds of migrators, pools of databases, or tests.

    builder = TemplateBuilder(session, recipe, link_to=link_to, run=run, options=TemplateOptions(project="shop"))
    template = builder.get("utf8")   # found on the server, or built
    builder.close()
"""
