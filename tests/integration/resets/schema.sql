-- One of each kind of table that may or may not be emptied, most of them empty.
CREATE SCHEMA "o:dd ""one%";
CREATE TABLE person (
    id serial PRIMARY KEY,
    name text NOT NULL UNIQUE,
    boss int REFERENCES person,
    born date DEFAULT '1970-01-01'
);
CREATE TABLE letter (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 100) PRIMARY KEY,
    sender int NOT NULL REFERENCES person DEFERRABLE INITIALLY DEFERRED,
    body text NOT NULL,
    size int GENERATED ALWAYS AS (length(body)) STORED,
    words tsvector
);
CREATE INDEX ON letter USING gin (words);
CREATE INDEX ON letter USING hash (body);
CREATE INDEX ON letter USING brin (id);
CREATE UNIQUE INDEX ON letter (lower(body)) WHERE size < 100;
CREATE TABLE "o:dd ""one%"."ta:ble %s" ("col:umn" text, at tsrange, EXCLUDE USING gist (at WITH &&));
CREATE UNLOGGED TABLE visit (id serial, at timestamptz DEFAULT now());
CREATE TABLE event (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE event_old PARTITION OF event FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
CREATE TABLE animal (name text);
CREATE TABLE dog (tail int) INHERITS (animal);
CREATE TABLE secret (owner text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = 'me');
CREATE TABLE audit (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit VALUES (TG_OP || ' ' || TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON person FOR EACH STATEMENT EXECUTE FUNCTION note();
-- Those that are not emptied.
CREATE TABLE ruled (n int);
CREATE RULE kept AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE watched (n int);
CREATE TRIGGER always AFTER DELETE ON watched FOR EACH STATEMENT EXECUTE FUNCTION note();
ALTER TABLE watched ENABLE ALWAYS TRIGGER always;
CREATE TABLE country (code text PRIMARY KEY, name text);
INSERT INTO country VALUES ('at', 'Austria'), ('it', 'Italy');
CREATE MATERIALIZED VIEW countries AS SELECT count(*) AS n FROM country;
-- Sequences that do not stand at their start.
CREATE SEQUENCE ticket MINVALUE -5 START WITH 3 CACHE 10;
CREATE SEQUENCE batch CACHE 10;
SELECT nextval('batch');
CREATE SEQUENCE moved;
SELECT setval('moved', 41, false);
CREATE SEQUENCE used;
SELECT nextval('used') FROM generate_series(1, 7);
CREATE SEQUENCE "o:dd ""one%"."se:q %s";
CREATE TYPE mood AS ENUM ('fine', 'tired');
