-- The tables of a mirror database that the handler reads and writes: a database of its own for trying it out, and for sites
-- that have no MirrorManager2. Real sites have MirrorManager2's own, with many more tables and columns.
--
--   sqlite3 mirrors.db < schema.sql
--
-- For PostgreSQL, two words are others:
--
--   sed "s/id integer PRIMARY KEY/id serial PRIMARY KEY/; s/ blob/ bytea/" schema.sql | psql -d mirrors
--
-- The handler makes no products, arches and categories: see the end.

CREATE TABLE product (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    publiclist boolean NOT NULL
);

CREATE TABLE version (
    id integer PRIMARY KEY,
    name text,
    codename text,
    is_test boolean NOT NULL,
    display boolean NOT NULL,
    display_name text,
    ordered_mirrorlist boolean NOT NULL,
    sortorder integer NOT NULL,
    product_id integer REFERENCES product (id),
    UNIQUE (name, product_id)
);

CREATE TABLE arch (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    publiclist boolean NOT NULL,
    primary_arch boolean NOT NULL
);

-- name: without a slash at either end. files: JSON. ctime: seconds since 1970.
CREATE TABLE directory (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    files blob,
    readable boolean NOT NULL,
    ctime bigint
);
CREATE INDEX directory_readable ON directory (readable);

CREATE TABLE category (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    canonicalhost text,
    publiclist boolean NOT NULL,
    geo_dns_domain text,
    admin_only boolean,
    product_id integer REFERENCES product (id),
    topdir_id integer REFERENCES directory (id)
);

CREATE TABLE category_directory (
    category_id integer NOT NULL REFERENCES category (id),
    directory_id integer NOT NULL REFERENCES directory (id),
    PRIMARY KEY (category_id, directory_id)
);

-- One for each directory with repodata that clients ask for by prefix and arch.
CREATE TABLE repository (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    prefix text,
    category_id integer REFERENCES category (id),
    version_id integer REFERENCES version (id),
    arch_id integer REFERENCES arch (id),
    directory_id integer REFERENCES directory (id),
    disabled boolean NOT NULL,
    UNIQUE (prefix, arch_id)
);
CREATE INDEX repository_directory_id ON repository (directory_id);
CREATE INDEX repository_category_id ON repository (category_id);
CREATE INDEX repository_version_id ON repository (version_id);
CREATE INDEX repository_arch_id ON repository (arch_id);

-- One for each version of a file that metalinks are made of.
CREATE TABLE file_detail (
    id integer PRIMARY KEY,
    filename text NOT NULL,
    "timestamp" bigint,
    size bigint,
    sha1 text,
    md5 text,
    sha256 text,
    sha512 text,
    directory_id integer NOT NULL REFERENCES directory (id)
);
CREATE INDEX file_detail_timestamp ON file_detail ("timestamp");

-- From here on: what others write about directories and repositories; the handler only deletes from it.

CREATE TABLE file_detail_file_group (
    id integer PRIMARY KEY,
    file_detail_id integer NOT NULL REFERENCES file_detail (id),
    file_group_id integer NOT NULL
);

CREATE TABLE propagation_stat (
    repository_id integer NOT NULL REFERENCES repository (id),
    datetime timestamp NOT NULL,
    same_day integer NOT NULL,
    one_day integer NOT NULL,
    two_day integer NOT NULL,
    older integer NOT NULL,
    no_info integer NOT NULL,
    PRIMARY KEY (repository_id, datetime)
);

CREATE TABLE directory_exclusive_host (
    id integer PRIMARY KEY,
    directory_id integer NOT NULL REFERENCES directory (id),
    host_id integer NOT NULL,
    UNIQUE (directory_id, host_id)
);

CREATE TABLE host_category_dir (
    id integer PRIMARY KEY,
    host_category_id integer NOT NULL,
    path text,
    up2date boolean NOT NULL,
    directory_id integer REFERENCES directory (id) ON DELETE CASCADE,
    UNIQUE (host_category_id, path)
);

-- MirrorManager2 lacks these: there, deleting a directory looks through whole tables.
CREATE INDEX category_directory_directory_id ON category_directory (directory_id);
CREATE INDEX file_detail_directory_id ON file_detail (directory_id);
CREATE INDEX file_detail_file_group_file_detail_id ON file_detail_file_group (file_detail_id);
CREATE INDEX host_category_dir_directory_id ON host_category_dir (directory_id);
CREATE INDEX category_topdir_id ON category (topdir_id);

-- To begin with, a site writes something like this:
--
--   INSERT INTO product (name, publiclist) VALUES ('EPEL', true);
--   INSERT INTO arch (name, publiclist, primary_arch) VALUES ('source', false, false), ('x86_64', true, true);
--   INSERT INTO directory (name, readable, ctime) VALUES ('pub/epel', true, 0);
--   INSERT INTO category (name, publiclist, admin_only, product_id, topdir_id)
--     SELECT 'Fedora EPEL', true, false, p.id, d.id FROM product p, directory d WHERE p.name = 'EPEL' AND d.name = 'pub/epel';
--   INSERT INTO category_directory (category_id, directory_id) SELECT id, topdir_id FROM category;
