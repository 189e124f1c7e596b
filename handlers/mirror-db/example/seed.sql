-- What stands in the example's database before the first look: what people put there, and the handler never does (products, arches,
-- categories and their top directories). Made with it: mirrors.db
--   rm -f mirrors.db; (echo "PRAGMA page_size = 512;"; cat schema.sql seed.sql) | sqlite3 mirrors.db
INSERT INTO arch (id, name, publiclist, primary_arch) VALUES
    (1, 'source', false, false), (2, 'x86_64', true, true), (3, 'aarch64', true, true);
INSERT INTO product (id, name, publiclist) VALUES (1, 'EPEL', true), (2, 'Fedora', true);
INSERT INTO directory (id, name, readable) VALUES (1, 'pub/epel', true), (2, 'pub/fedora/linux', true), (3, 'pub/alt', true);
INSERT INTO category (id, name, canonicalhost, publiclist, admin_only, product_id, topdir_id) VALUES
    (1, 'Fedora EPEL', 'http://mirror.example.org', true, false, 1, 1),
    (2, 'Fedora Linux', 'http://mirror.example.org', true, false, 2, 2),
    (3, 'Fedora Other', 'http://mirror.example.org', true, false, 2, 3);
INSERT INTO category_directory (category_id, directory_id) VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO version (id, name, is_test, display, ordered_mirrorlist, sortorder, product_id) VALUES
    (1, 'development', false, true, true, 0, 2);
