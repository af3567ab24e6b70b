-- What every test finds: two products.
INSERT INTO product (name, price_cents) VALUES ('tea', 350), ('cake', 420);
