"""What a template is made from, and how it is found, built, published and retired."""
