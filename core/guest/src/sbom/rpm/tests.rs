//! Hostile databases of rpm as data. What rpm writes is compared with `rpm -qa` in `crate::tests::rpm`.

use super::{Format, MAX_PACKAGES, every, ndb, parse};
use crate::sbom::Package;
use crate::source::{Fault, Limits, Source};

const PAGE: usize = 512;

fn source() -> Source {
    Source::new(None, Limits::default())
}

fn read(file: &[u8], log: &[u8], format: Format) -> Result<Vec<Package>, String> {
    parse(file, log, format, &source()).map_err(|fault| match fault {
        Fault::Damaged(why) => why,
        other => panic!("{other:?}"),
    })
}

/// A header with these entries: tag, type, and content.
fn header(entries: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, content) in entries {
        for number in [*tag, *kind, u32::try_from(data.len()).unwrap(), 1] {
            index.extend(number.to_be_bytes());
        }
        data.extend_from_slice(content);
    }
    let lengths = [entries.len(), data.len()].map(|len| u32::try_from(len).unwrap().to_be_bytes());
    [lengths.concat(), index, data].concat()
}

/// The header of a package whose description has this length.
fn package(name: &str, text: usize) -> Vec<u8> {
    let (name, text) = (format!("{name}\0"), "x".repeat(text) + "\0");
    header(&[
        (1000, 6, name.as_bytes()),
        (1001, 6, b"1\0"),
        (1002, 6, b"2\0"),
        (1005, 9, text.as_bytes()),
    ])
}

fn names(found: &[Package]) -> Vec<&str> {
    found.iter().map(|package| package.name.as_str()).collect()
}

fn varint(value: usize) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(value & 0x7f).unwrap()];
    let mut rest = value >> 7;
    while rest > 0 {
        bytes.insert(0, 0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    bytes
}

/// A row of `Packages`: NULL, and the header.
fn row(header: &[u8]) -> Vec<u8> {
    let kinds = [vec![0], varint(header.len() * 2 + 12)].concat();
    [varint(kinds.len() + 1), kinds, header.to_vec()].concat()
}

/// A page with these cells behind `start`.
fn page(kind: u8, start: usize, right: u32, cells: &[Vec<u8>]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    page[start] = kind;
    page[start + 4] = u8::try_from(cells.len()).unwrap();
    let mut pointer = start + 8;
    if kind == 5 {
        page[start + 8..start + 12].copy_from_slice(&right.to_be_bytes());
        pointer += 4;
    }
    let mut end = PAGE;
    for cell in cells {
        end -= cell.len();
        page[end..end + cell.len()].copy_from_slice(cell);
        page[pointer..pointer + 2].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
        pointer += 2;
    }
    page
}

fn cell(number: usize, payload: &[u8]) -> Vec<u8> {
    [varint(payload.len()), varint(number), payload.to_vec()].concat()
}

/// A cell whose payload continues on this page, and the pages of the rest.
fn long_cell(number: usize, payload: &[u8], next: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
    let least = (PAGE - 12) * 32 / 255 - 23;
    let wanted = least + (payload.len() - least) % (PAGE - 4);
    let local = if wanted <= PAGE - 35 { wanted } else { least };
    let (here, rest) = payload.split_at(local);
    let cell = [varint(payload.len()), varint(number), here.to_vec(), next.to_be_bytes().to_vec()];
    let pieces = rest.chunks(PAGE - 4);
    let count = u32::try_from(pieces.len()).unwrap();
    let pages = (1..).zip(pieces).map(|(at, piece)| {
        let after = if at == count { 0 } else { next + at };
        let mut page = [&after.to_be_bytes()[..], piece].concat();
        page.resize(PAGE, 0);
        page
    });
    (cell.concat(), pages.collect())
}

fn child(page: u32, number: usize) -> Vec<u8> {
    [page.to_be_bytes().to_vec(), varint(number)].concat()
}

/// A database whose table `Packages` begins on page 2, the first of these pages.
fn database(pages: &[Vec<u8>]) -> Vec<u8> {
    let kinds = [[varint(5 * 2 + 13), varint(8 * 2 + 13)].concat(), vec![8 * 2 + 13, 1, 13]];
    let kinds = kinds.concat();
    let head = u8::try_from(kinds.len() + 1).unwrap();
    let schema = [&[head][..], &kinds, b"tablePackagesPackages\x02"].concat();
    let mut first = page(13, 100, 0, &[cell(1, &schema)]);
    first[..16].copy_from_slice(b"SQLite format 3\0");
    first[16..24].copy_from_slice(&[2, 0, 2, 2, 0, 64, 32, 32]);
    first[59] = 1;
    [vec![first], pages.to_vec()].concat().concat()
}

/// Two leaves below an interior page, with one row that needs overflow pages.
fn sound() -> Vec<Vec<u8>> {
    let (long, rest) = long_cell(3, &row(&package("c", 1200)), 5);
    let first = page(13, 0, 0, &[1, 2].map(|number| cell(number, &row(&package("ab", 9)))));
    let top = page(5, 0, 4, &[child(3, 2)]);
    [vec![top, first, page(13, 0, 0, &[long])], rest].concat()
}

#[test]
fn rows_of_several_pages_are_read() {
    let found = read(&database(&sound()), &[], Format::Sqlite).unwrap();
    assert_eq!(names(&found), ["ab", "ab", "c"]);
    assert_eq!(found[2].version, "1-2");
    assert_eq!(read(&[], &[], Format::Sqlite).unwrap(), []);
}

#[test]
fn hostile_trees_end_in_an_error() {
    let overlap = {
        // The second cell is in the payload of the first.
        let inner = cell(2, &row(&package("b", 180)));
        let outer = cell(1, &[vec![0; 40], inner.clone(), vec![0; 100]].concat());
        let mut page = page(13, 0, 0, &[outer]);
        let at = page.windows(inner.len()).position(|window| window == inner).unwrap();
        page[4] = 2;
        page[10..12].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
        page
    };
    let deep = |depth: u32| (3..depth + 3).map(|next| page(5, 0, next, &[])).collect::<Vec<_>>();
    let leaf = |cells: &[Vec<u8>]| vec![page(13, 0, 0, cells)];
    let (loops, rest) = long_cell(1, &row(&package("a", 3000)), 3);
    let mut circle = [leaf(std::slice::from_ref(&loops)), rest].concat();
    circle[2][..4].copy_from_slice(&3_u32.to_be_bytes());
    let (endless, _) = long_cell(1, &row(&package("a", 3000)), 0);
    let huge = [vec![0xff; 8], vec![0x7f, 1], vec![0; 80]].concat();
    let same = [1, 1].map(|number| cell(number, &row(&package("a", 1))));
    let blob = cell(1, &[3, 0, 15, b'x']);
    for (name, pages, why) in [
        ("a page is its own child", vec![page(5, 0, 2, &[])], "page 2 is used twice"),
        (
            "one child twice",
            vec![page(5, 0, 3, &[child(3, 1)]), leaf(&[])[0].clone()],
            "page 3 is used twice",
        ),
        ("a child that is the schema", vec![page(5, 0, 1, &[])], "page 1 is used twice"),
        ("a child behind the end", vec![page(5, 0, 99, &[])], "it refers to page 99"),
        ("a child without a number", vec![page(5, 0, 0, &[])], "it refers to page 0"),
        ("too deep", deep(30), "is malformed"),
        ("an index", vec![page(10, 0, 0, &[])], "page 2 is malformed"),
        ("a circle of overflow pages", circle, "page 3 is used twice"),
        ("an overflow page without a number", leaf(&[endless]), "it refers to page 0"),
        ("a long payload", leaf(&[huge]), "page 2 is malformed"),
        ("cells that overlap", vec![overlap], "malformed"),
        ("a row twice", leaf(&same), "the rows of page 2 are in disorder"),
        ("a text as header", leaf(&[blob]), "a row of the table `Packages` is malformed"),
    ] {
        let found = read(&database(&pages), &[], Format::Sqlite);
        let got = found.expect_err(name);
        assert!(got.contains(why), "{name}: {got}");
    }
}

#[test]
fn hostile_headers_of_the_file_end_in_an_error() {
    for (at, byte, why) in [
        (0, 0, "it is not a database of SQLite"),
        (17, 1, "its header is malformed"),
        (16, 1, "its header is malformed"),
        (19, 3, "its format has version 3"),
        (20, 33, "its header is malformed"),
        (59, 2, "its header is malformed"),
        (100, 5, "it refers to page 1397836905"),
    ] {
        let mut file = database(&sound());
        file[at] = byte;
        let got = read(&file, &[], Format::Sqlite).unwrap_err();
        assert!(got.contains(why), "{at}: {got}");
    }
    let mut file = database(&sound());
    let at = file.windows(8).position(|window| window == b"Packages").unwrap();
    file[at] = b'p';
    assert_eq!(read(&file, &[], Format::Sqlite).unwrap_err(), "it has no table `Packages`");
}

#[test]
fn hostile_headers_of_packages_end_in_an_error() {
    let ends = [(1000, 6, &b"a\0"[..]), (1001, 6, b"1\0"), (1002, 6, b"2\0")];
    let with = |entry: (u32, u32, &[u8])| header(&[&ends[..], &[entry]].concat());
    let mut far = with((1003, 4, &[0, 0, 0, 7]));
    far[8 + 3 * 16 + 8] = 0x7f;
    let mut many = with((1003, 4, &[0, 0, 0, 7]));
    many[0] = 1;
    for (name, bytes, why) in [
        ("nothing", Vec::new(), "the lengths of a header are malformed"),
        ("more entries than bytes", many, "the lengths of a header are malformed"),
        ("a value behind the end", far, "tag 1003 of a header is malformed"),
        ("a text as epoch", with((1003, 6, b"7\0")), "tag 1003 of a header is malformed"),
        ("a text without an end", with((1014, 6, b"MIT")), "tag 1014 of a header is malformed"),
        ("a number as text", with((1022, 4, &[0; 4])), "tag 1022 of a header is malformed"),
        ("no name", header(&ends[1..]), "a header has no name"),
        ("no release", header(&ends[..2]), "a header has no release"),
    ] {
        let found = super::header::package(&bytes);
        assert_eq!(found, Err(Fault::damaged(why)), "{name}");
    }
    // Entries that are added to an installed package replace those of its region.
    let found = super::header::package(&with((1001, 6, b"3\0"))).unwrap().unwrap();
    assert_eq!(found.version, "3-2");
    let found = super::header::package(&with((1003, 4, &[0; 4]))).unwrap().unwrap();
    assert_eq!(found.version, "0:1-2");
    let key = header(&[(1000, 6, b"gpg-pubkey\0"), ends[1], ends[2]]);
    assert_eq!(super::header::package(&key), Ok(None));
}

/// A log for pages of this size with these frames: page, pages of the database after a commit or 0, content.
fn log(page: u32, frames: &[(u32, u32, &[u8])], big_endian: bool) -> Vec<u8> {
    let word = |raw: &[u8]| {
        let raw = raw.try_into().unwrap();
        if big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
    };
    let mut sum = (0_u32, 0_u32);
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(8) {
            sum.0 = sum.0.wrapping_add(word(&pair[..4])).wrapping_add(sum.1);
            sum.1 = sum.1.wrapping_add(word(&pair[4..])).wrapping_add(sum.0);
        }
        [sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat()
    };
    let numbers = [0x377f_0682 | u32::from(big_endian), 3_007_000, page, 0, 11, 12];
    let mut out = numbers.map(u32::to_be_bytes).concat();
    out.extend(add(&out));
    for (number, pages, content) in frames {
        let head = [number.to_be_bytes(), pages.to_be_bytes()].concat();
        add(&head);
        let sum = add(content);
        out.extend([&head[..], &[0, 0, 0, 11, 0, 0, 0, 12], &sum, content].concat());
    }
    out
}

#[test]
fn committed_transactions_of_the_log_count() {
    let file = database(&sound());
    let all = u32::try_from(file.len() / PAGE).unwrap();
    let leaf = |name| page(13, 0, 0, &[cell(1, &row(&package(name, 1)))]);
    let (new, newer) = (leaf("new"), leaf("newer"));
    let both = [(2, 0, &new[..]), (2, all, &newer)];
    let old = ["ab", "ab", "c"];
    let got = |log: &[u8]| {
        read(&file, log, Format::Sqlite)
            .map(|found| found.into_iter().map(|package| package.name).collect::<Vec<_>>())
    };
    for big_endian in [false, true] {
        assert_eq!(got(&log(512, &both, big_endian)).unwrap(), ["newer"]);
        assert_eq!(got(&log(512, &[(2, all, &new), (2, 0, &newer)], big_endian)).unwrap(), ["new"]);
        assert_eq!(got(&log(512, &both[..1], big_endian)).unwrap(), old);
        let whole = log(512, &[(2, all, &new), (2, all, &newer)], big_endian);
        let first = 32 + 24 + PAGE;
        for (cut, want) in [(first, "new"), (whole.len() - 1, "new"), (whole.len(), "newer")] {
            assert_eq!(got(&whole[..cut]).unwrap(), [want]);
        }
        // Frames of an earlier log have other salts; a frame that was half written has another checksum.
        for at in [first + 8, first + 16, first + 100] {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            assert_eq!(got(&broken).unwrap(), ["new"]);
        }
    }
    // The database may have become shorter: what it lost is not read.
    assert_eq!(got(&log(512, &[(1, 3, &file[..PAGE])], true)).unwrap_err(), "it refers to page 4");
    let far = log(512, &[(1, 1 << 30, &file[..PAGE])], true);
    assert_eq!(got(&far).unwrap_err(), "it is truncated");
    let other = log(1024, &[], true);
    let why = "its log does not belong to it, or has another version";
    assert_eq!(got(&other).unwrap_err(), why);
    let mut broken = other;
    broken[12] = 1;
    assert_eq!(got(&broken).unwrap(), old);
}

/// A database in the layout of ndb.
fn packed(headers: &[Vec<u8>]) -> Vec<u8> {
    let pages = headers.len() / 254 + 1;
    let le = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut slots = [&b"RpmP"[..], &le(0), &le(1), &le(pages), &[0; 16]].concat();
    let mut blobs = Vec::new();
    for (number, header) in (1..).zip(headers) {
        let mut blob = [&b"BlbS"[..], &le(number), &le(1), &le(header.len()), header].concat();
        blob.resize((blob.len() + 12).next_multiple_of(16) - 12, 0);
        let sum = ndb::adler32(&blob).to_le_bytes();
        blob.extend([&sum[..], &le(header.len()), b"BlbE"].concat());
        let place = pages * 256 + blobs.len() / 16;
        slots.extend([&b"Slot"[..], &le(number), &le(place), &le(blob.len() / 16)].concat());
        blobs.extend(blob);
    }
    while slots.len() < pages * 4096 {
        slots.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    [slots, blobs].concat()
}

/// A hash of Berkeley DB with one header, in a chain of pages.
fn hashed(header: &[u8], big_endian: bool) -> Vec<u8> {
    let number = |number: usize| {
        let raw = u32::try_from(number).unwrap();
        if big_endian { raw.to_be_bytes() } else { raw.to_le_bytes() }
    };
    let short = |value: usize| {
        let raw = u16::try_from(value).unwrap();
        if big_endian { raw.to_be_bytes() } else { raw.to_le_bytes() }
    };
    let pieces: Vec<&[u8]> = header.chunks(PAGE - 26).collect();
    let mut meta = vec![0; PAGE];
    for (at, value) in [(12, 0x0006_1561), (16, 9), (20, PAGE), (32, 1 + pieces.len())] {
        meta[at..at + 4].copy_from_slice(&number(value));
    }
    meta[25] = 8;
    let mut top = vec![0; PAGE];
    top[25] = 13;
    let value = [vec![3, 0, 0, 0], number(2).to_vec(), number(header.len()).to_vec()].concat();
    let items = [&[1, 0, 0, 0, 0][..], &[1, 9, 9, 9, 9], &[1, 1, 0, 0, 0], &value];
    top[20..22].copy_from_slice(&short(items.len()));
    let mut end = PAGE;
    for (at, item) in items.into_iter().enumerate() {
        end -= item.len();
        top[end..end + item.len()].copy_from_slice(item);
        top[26 + 2 * at..28 + 2 * at].copy_from_slice(&short(end));
    }
    let mut pages = vec![meta, top];
    for (at, piece) in pieces.iter().enumerate() {
        let mut page = vec![0; 26];
        let next = if at + 1 == pieces.len() { 0 } else { at + 3 };
        page[16..20].copy_from_slice(&number(next));
        page[22..24].copy_from_slice(&short(piece.len()));
        page[25] = 7;
        page.extend_from_slice(piece);
        page.resize(PAGE, 0);
        pages.push(page);
    }
    pages.concat()
}

#[test]
fn other_formats_are_read_and_hostile_ones_end_in_an_error() {
    let packed = packed(&[package("a", 3), package("b", 3000)]);
    assert_eq!(names(&read(&packed, &[], Format::Ndb).unwrap()), ["a", "b"]);
    for big_endian in [false, true] {
        let hashed = hashed(&package("c", 1500), big_endian);
        assert_eq!(names(&read(&hashed, &[], Format::Hash).unwrap()), ["c"]);
    }
    let hashed = hashed(&package("c", 1500), false);
    let second_slot = 48;
    for (file, format, at, bytes, why) in [
        (&packed, Format::Ndb, 0, &b"x"[..], "it is not a database of rpm, or has another version"),
        (&packed, Format::Ndb, 15, &[1], "its slots are truncated"),
        (&packed, Format::Ndb, second_slot, b"x", "one of its slots is malformed"),
        (&packed, Format::Ndb, second_slot + 11, &[1], "one of its headers is malformed"),
        (&packed, Format::Ndb, 4096 + 20, &[9], "one of its headers is malformed"),
        (&hashed, Format::Hash, 12, &[0], "it is not a hash of Berkeley DB"),
        (&hashed, Format::Hash, 16, &[99], "its format has version 99"),
        (&hashed, Format::Hash, 24, &[1], "it is encrypted, or has checksums or partitions"),
        (&hashed, Format::Hash, 21, &[3], "its header is malformed"),
        (&hashed, Format::Hash, 33, &[9], "it is truncated"),
        (&hashed, Format::Hash, PAGE + 20, &[3], "page 1 is malformed"),
        (&hashed, Format::Hash, PAGE + 29, &[0xff], "page 1 is malformed"),
        (&hashed, Format::Hash, 2 * PAGE + 16, &[2], "page 2 is malformed"),
        (&hashed, Format::Hash, 2 * PAGE + 17, &[9], "it refers to page 2307"),
        (&hashed, Format::Hash, 2 * PAGE + 25, &[13], "page 2 is malformed"),
    ] {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(read(&file, &[], format).unwrap_err(), why, "{at}");
    }
}

#[test]
fn every_damage_of_one_byte_and_every_length_ends() {
    let sqlite = database(&sound());
    let log = log(512, &[(2, 4, &sqlite[PAGE..2 * PAGE])], true);
    let packed = packed(&[package("a", 3), package("b", 30)]);
    let hashed = hashed(&package("c", 900), true);
    let mut read = 0;
    for file in [&sqlite, &packed, &hashed, &package("d", 9)] {
        for at in 0..file.len() {
            let mut damaged = file.clone();
            for byte in [0, 1, 0x7f, 0xff] {
                damaged[at] = byte;
                read += every(&damaged, &log, &source()).iter().flatten().count();
            }
            every(&file[..at], &log, &source());
        }
    }
    assert!(read > 0);
}

#[test]
fn numbers_are_limited() {
    let headers = vec![package("a", 1); MAX_PACKAGES + 1];
    assert_eq!(read(&packed(&headers[1..]), &[], Format::Ndb).unwrap().len(), MAX_PACKAGES);
    let why = "it has more than 50000 packages, or 16 MiB of names";
    assert_eq!(read(&packed(&headers), &[], Format::Ndb).unwrap_err(), why);
    let license = format!("{}\0", "x".repeat(60_000));
    let long = header(&[
        (1000, 6, b"a\0"),
        (1001, 6, b"1\0"),
        (1002, 6, b"2\0"),
        (1014, 6, license.as_bytes()),
    ]);
    assert_eq!(read(&packed(&vec![long; 300]), &[], Format::Ndb).unwrap_err(), why);
    let limits = Limits { steps: 3, ..Limits::default() };
    let found = parse(&database(&sound()), &[], Format::Sqlite, &Source::new(None, limits));
    assert_eq!(found, Err(Fault::Stopped));
}
