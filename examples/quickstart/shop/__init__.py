"""A small shop: products, and orders of them."""
