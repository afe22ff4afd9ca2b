//! `abi-host compare PLUGIN`: whether the ABI of a plugin is that of this host.
//! `abi-host call STEP PLUGIN SETTINGS REQUEST`: the answer of one step to a request, all documents as JSON.
//! `abi-host run CYCLES PLUGIN`: loads a plugin and runs all its steps so many times; for other
//! compilers, sanitizers, and versions of plugin-api that do not exist yet.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fs::File, path::Path, process::ExitCode, sync::Arc};

use abi_stable::{StableAbi, abi_stability::check_layout_compatibility, type_layout::TypeLayout};
use build_image_plugin_api::{
    ABI_VERSION, Library, Settings, Step,
    document::{
        Build, CheckRequest, DiscardReason, DiscardRequest, DiskRequest, RegisterRequest,
        UploadRequest,
    },
    testing::MockHost,
    wire::abi::ProviderModule_Ref,
};
use serde_json::json;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["compare", plugin] => compare(Path::new(plugin)),
        ["run", cycles, plugin] => run(cycles, Path::new(plugin)),
        ["call", step, plugin, settings, request] => {
            call(step, Path::new(plugin), settings, request)
        }
        _ => Err("abi-host compare PLUGIN | run CYCLES PLUGIN | call STEP PLUGIN SETTINGS REQUEST"
            .to_owned()),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// `same` may be any release, `additive` needs a minor one, everything else a major one.
fn compare(plugin: &Path) -> Result<String, String> {
    let library = open(plugin)?;
    let (old, new) = (library.layout(), <ProviderModule_Ref as StableAbi>::LAYOUT);
    let fits = |a: &'static TypeLayout, b| check_layout_compatibility(a, b).into_result();
    let word = match (fits(old, new), fits(new, old)) {
        (Ok(()), Ok(())) => "same",
        (Ok(()), Err(_)) => "additive",
        (Err(error), _) => return Err(format!("breaking: {error:#?}")),
    };
    Ok(format!("{word} since {}, now {ABI_VERSION}", library.api_version()))
}

fn open(plugin: &Path) -> Result<Library, String> {
    let file = File::open(plugin).map_err(|error| format!("{}: {error}", plugin.display()))?;
    Library::open(&file, plugin).map_err(|error| error.to_string())
}

fn call(step: &str, plugin: &Path, settings: &str, request: &str) -> Result<String, String> {
    let step = Step::from_name(step).ok_or_else(|| format!("unknown step `{step}`"))?;
    let settings: Settings = serde_json::from_str(settings).map_err(|error| error.to_string())?;
    let steps = open(plugin)?.create(Arc::new(MockHost::new()), &settings);
    let answer = steps.and_then(|steps| steps.call(step, request));
    answer.map_err(|error| format!("{}: {error}", error.kind.code()))
}

fn run(cycles: &str, plugin: &Path) -> Result<String, String> {
    let cycles: u32 = cycles.parse().map_err(|_| "CYCLES is a number".to_owned())?;
    let library = open(plugin)?;
    let directory = std::env::temp_dir().join(format!("abi-host-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let mut last = Ok(String::new());
    for _ in 0..cycles {
        last = steps(&library, &directory);
        if last.is_err() {
            break;
        }
    }
    std::fs::remove_dir_all(&directory).map_err(|error| error.to_string())?;
    last.map_err(|error| format!("{error:?}"))
}

/// All steps of one instance; the facts that its registration tells.
fn steps(library: &Library, directory: &Path) -> build_image_plugin_api::Result<String> {
    let secret = library.description().settings.iter().find(|row| row.secret);
    let mut host = MockHost::new().with_disk(vec![7; 3 << 20]);
    if let Some(row) = secret {
        host = host.with_secret(&row.key, "a secret");
    }
    let host = Arc::new(host);
    let rows = library.description().settings.iter();
    let defaults = rows.filter_map(|row| Some((row.key.clone(), row.default.clone()?.into())));
    let settings = Settings::from_values(defaults.collect());
    let steps = library.create(host.clone(), &settings)?;
    let build =
        Build::default().image_dir(directory.display().to_string()).image_name("web").file_stem("web");
    steps.check(&CheckRequest::new(build.clone()))?;
    let spec = library.description().disk.spec.clone();
    let request = DiskRequest::new(build.clone(), spec);
    let disk = steps.create_disk(&request)?;
    let request = UploadRequest::new(build.clone(), disk);
    let uploaded = steps.upload(&request)?;
    let request = RegisterRequest::new(build, uploaded);
    let registered = steps.register(&request)?;
    let request = DiscardRequest::new(DiscardReason::default(), host.resources());
    let removed = steps.discard(&request)?.removed.len();
    // Steps that later versions added; `rehearse` exists only in tests/abi_versions.rs.
    let names = Step::ALL.iter().filter(|step| step.is_optional()).map(|step| step.name());
    let names: Vec<&str> = names.collect();
    let optional = Step::ALL.iter().filter(|step| step.is_optional()).map(|step| {
        let answer = steps.call(*step, "{}");
        answer.map_or_else(|error| error.message, |_| "answered".to_owned())
    });
    let optional: BTreeMap<_, _> = names.iter().copied().zip(optional).collect();
    drop(steps);
    // The ABI's answers without the host's check of versions.
    let raw = library.create_raw(host, "{}")?;
    let answers = names
        .iter()
        .map(|name| raw.call(name, "{}").map_or_else(|(code, _)| code, |_| "answered".to_owned()));
    let raw_optional: BTreeMap<_, _> = names.iter().copied().zip(answers).collect();
    let answer = json!({
        "abi": library.api_version(),
        "images": registered.images.len(),
        "facts": registered.facts,
        "removed": removed,
        "optional": optional,
        "raw_optional": raw_optional,
    });
    Ok(answer.to_string())
}
