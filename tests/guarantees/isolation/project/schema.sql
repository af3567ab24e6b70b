CREATE TABLE author (
    id serial PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE book (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id int NOT NULL REFERENCES author DEFERRABLE INITIALLY DEFERRED,
    title text NOT NULL
);
CREATE UNLOGGED TABLE visit (at timestamptz);
CREATE SEQUENCE ticket;
CREATE TYPE mood AS ENUM ('fine', 'tired');
CREATE MATERIALIZED VIEW authors AS SELECT count(*) AS n FROM author;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
INSERT INTO author (name) VALUES ('Ursula'), ('Stanisław');
INSERT INTO book (author_id, title) VALUES (1, 'The Dispossessed'), (2, 'Solaris');
REFRESH MATERIALIZED VIEW authors;
