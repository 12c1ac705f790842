CREATE TABLE stock (
    item text PRIMARY KEY,
    pieces integer NOT NULL CHECK (pieces >= 0)
);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    item text NOT NULL REFERENCES stock,
    pieces integer NOT NULL CHECK (pieces > 0)
);
INSERT INTO stock VALUES ('plums', 1000000), ('the last melon', 1);
