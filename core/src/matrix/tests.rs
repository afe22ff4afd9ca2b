use serde_json::Value;

use super::*;

const FILE: &str = "\
name: nightly
config: build.yml
results: results/
settings:
  CLOUD_IMAGE_NAME: it's a name
axes:
  product:
    - id: v15
      ISO: /isos/15.iso
    - id: v16
      iso: /isos/16.iso
  DISK_SIZE: [8G, 16G]
  target:
    - {id: one, PLATFORM: acme, image-tags: [{owner: team}]}
    - {id: two, PLATFORM: other, CLOUD_IMAGE_NAME: special, IMAGE_DIR: }
exclude:
  - {product: v16, DISK_SIZE: 16G}
  - {product: v15, DISK_SIZE: 8G, target: two}
include:
  - id: extra
    DISK: /disks/a.raw
";

fn parse(text: &str) -> Result<Matrix> {
    Matrix::parse(Path::new("m.yml"), text)
}

#[test]
fn a_matrix_is_every_combination_without_the_excluded_ones() {
    let matrix = parse(FILE).unwrap();
    let builds = matrix.builds().unwrap();
    let ids: Vec<&str> = builds.iter().map(|build| build.id.as_str()).collect();
    let expected = [
        "nightly-v15-8G-one",
        "nightly-v15-16G-one",
        "nightly-v15-16G-two",
        "nightly-v16-8G-one",
        "nightly-v16-8G-two",
        "nightly-extra",
    ];
    assert_eq!(ids, expected);
    assert_eq!(
        builds[2].args(&matrix),
        [
            "--once",
            "nightly-v15-16G-two",
            "-c",
            "build.yml",
            "--cloud-image-name=special",
            "--iso=/isos/15.iso",
            "--disk-size=16G",
            "--platform=other",
            "--output-json-file=results/nightly-v15-16G-two.json",
        ]
    );
    let axes: Vec<(&str, &str)> =
        builds[2].axes.iter().map(|(axis, id)| (axis.as_str(), id.as_str())).collect();
    assert_eq!(axes, [("DISK_SIZE", "16G"), ("product", "v15"), ("target", "two")]);
    assert_eq!(builds[5].settings.len(), 2);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the shell is the judge")]
fn commands_survive_a_shell() {
    let matrix = parse(FILE).unwrap();
    let builds = matrix.builds().unwrap();
    let command = command(&matrix, &builds[0]);
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("set -- {command}; printf '%s\\n' \"$@\"")])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let args = builds[0].args(&matrix);
    let expected: Vec<&str> =
        std::iter::once("build-image").chain(args.iter().map(String::as_str)).collect();
    assert_eq!(words.lines().collect::<Vec<&str>>(), expected);
    assert!(expected.contains(&"--cloud-image-name=it's a name"));
    assert!(expected.contains(&r#"--image-tags=[{"owner":"team"}]"#));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the shell is the judge")]
fn every_format_has_every_build() {
    let matrix = parse(FILE).unwrap();
    let builds = matrix.builds().unwrap();
    let github = github(&matrix, &builds);
    assert!(!github.contains('\n'));
    let document: Value = serde_json::from_str(&github).unwrap();
    assert_eq!(document["include"].as_array().unwrap().len(), 6);
    assert_eq!(document["include"][0]["product"], "v15");
    assert_eq!(document["include"][0]["command"], command(&matrix, &builds[0]));
    let pipeline: Value = serde_json::from_str(&gitlab(&matrix, &builds)).unwrap();
    let job = &pipeline["nightly-extra"];
    assert_eq!(job["script"][0], command(&matrix, &builds[5]));
    assert_eq!(job["artifacts"]["paths"][0], "results/");
    let script = slurm(&matrix, &builds, Some(4));
    assert!(script.contains("#SBATCH --array=0-5%4\n"), "{script}");
    assert!(script.contains(&format!("\n5) {} ;;\n", command(&matrix, &builds[5]))));
    let checked = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(checked.unwrap().success());
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, expected) in [
        ("- a", "line 1: a matrix is a map"),
        ("axes: {a: [b]}", "line 1: the matrix needs a `name`"),
        ("name: a b\naxes: {a: [b]}", "line 1: the matrix needs a `name`"),
        ("name: n", "it has no build"),
        ("name: n\naxes: [a]", "line 2: `axes` is a map of lists"),
        ("name: n\naxes:\n  a: b", "line 3: a list is expected"),
        ("name: n\naxes:\n  a: []", "line 3: axis `a` has no entries"),
        ("name: n\naxes:\n  id: [b]", "line 3: `id` cannot be an axis"),
        (
            "name: n\naxes:\n  ISO: [/a.iso]",
            "line 3: an entry is a map, or a value that can be an id",
        ),
        ("name: n\naxes:\n  a:\n  - ISO: /a.iso", "line 4: an entry has no usable `id`"),
        ("name: n\naxes: {a: [b, b]}", "line 2: `b` stands here twice"),
        ("name: n\naxis: {a: [b]}", "line 2: `axis` is not known here"),
        ("name: n\naxes: {a: [b]}\nexclude: [{c: b}]", "line 3: no axis `c` has the id `b`"),
        ("name: n\naxes: {a: [b]}\nexclude: [{a: c}]", "line 3: no axis `a` has the id `c`"),
        ("name: n\naxes: {a: [b]}\nexclude: x", "line 3: an exclusion is a map of axes and ids"),
        ("name: n\naxes: {a: [b]}\nexclude:\n- {a: b}\n- {a: b}", "line 5: the exclusion fits no"),
        ("name: n\naxes: {a: [b]}\ninclude: [{id: b}]", "two builds have the id `n-b`"),
        ("name: n\nsettings: 3\naxes: {a: [b]}", "line 2: settings are a map"),
    ] {
        let error = parse(text).and_then(|matrix| matrix.builds()).unwrap_err();
        let all = format!("{error} {:?}", error.problems);
        assert!(all.contains(expected), "{text}: {all}");
        assert_eq!(error.exit_code(), crate::exit::USAGE);
    }
}

#[test]
fn a_matrix_has_a_largest_size() {
    let list: Vec<String> = (0..101).map(|number| format!("e{number}")).collect();
    let list = list.join(", ");
    let error = parse(&format!("name: n\naxes:\n  a: [{list}]\n  b: [{list}]")).unwrap_err();
    assert!(error.message.contains("more than 10000 combinations"), "{error}");
}
