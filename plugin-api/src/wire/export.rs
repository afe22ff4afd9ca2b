//! Implements the plugin's half: exposes an author's [`Provider`] through the frozen ABI.

use std::{path::Path, sync::Arc, time::Duration};

use abi_stable::{
    extern_fn_panic_handling,
    prefix_type::WithMetadata,
    std_types::{ROption, RResult, RSliceMut, RStr, RString},
    type_level::downcasting::TD_Opaque,
};
use serde_json::Value;

use super::{
    abi::{
        FfiError, FfiProgress, HostObject, ProviderAbi, ProviderAbi_TO, ProviderModule,
        ProviderModule_Ref, ProviderObject,
    },
    convert::{guard, guarded, parse, print},
    forward,
};
use crate::{
    Context, Disk, DiskSpec, Error, ErrorKind, Event, Host, LogRecord, Progress, Provider, Result,
    Secret, Settings, Step, WrittenDisk, context::no_disk_write, provider::step_table,
};

/// Builds the root module of a plugin for provider `P` at compile time.
pub struct Export<P>(std::marker::PhantomData<P>);

impl<P: Provider> Export<P> {
    abi_stable::staticref! {
        const MODULE: WithMetadata<ProviderModule> =
            WithMetadata::new(ProviderModule { describe: describe::<P>, create: create::<P> })
    }

    /// Returns the root module.
    #[must_use]
    pub fn module() -> ProviderModule_Ref {
        ProviderModule_Ref(Self::MODULE.as_prefix())
    }
}

extern "C" fn describe<P: Provider>() -> RResult<RString, FfiError> {
    extern_fn_panic_handling! {
        forward::hook_panics();
        guarded("describe", || print(&P::describe()))
    }
}

extern "C" fn create<P: Provider>(
    host: HostObject,
    settings: RStr<'_>,
) -> RResult<ProviderObject, FfiError> {
    extern_fn_panic_handling! {
        guarded("create", || {
            let host: Arc<dyn Host> = Arc::new(RemoteHost(host));
            forward::install(&host);
            let settings: Settings = parse(settings.as_str(), "settings")?;
            let settings = settings.checked(&P::describe().settings)?;
            let context = Context::new(host);
            let provider = P::create(&context, settings)?;
            let adapter = Adapter { provider: Some(provider), context };
            Ok(ProviderAbi_TO::from_value(adapter, TD_Opaque))
        })
    }
}

/// Adapts an author's provider to the ABI.
struct Adapter<P: Provider> {
    provider: Option<P>,
    context: Context,
}

impl<P: Provider> Adapter<P> {
    fn step<Q: serde::de::DeserializeOwned, A: serde::Serialize>(
        &self,
        step: Step,
        request: RStr<'_>,
        method: impl FnOnce(&P, &Context, &Q) -> Result<A>,
    ) -> RResult<RString, FfiError> {
        guarded(step.name(), || {
            let request: Q = parse(request.as_str(), step.name())?;
            let provider = self.provider.as_ref();
            let provider = provider.ok_or_else(|| Error::internal("used after its end"))?;
            print(&method(provider, &self.context, &request)?)
        })
    }
}

macro_rules! export_steps {
    ($($step:ident $method:ident($request:ty) -> $answer:ty, since $minor:literal;)*) => {
        impl<P: Provider> ProviderAbi for Adapter<P> {
            $(
                fn $method(&self, request: RStr<'_>) -> RResult<RString, FfiError> {
                    self.step(Step::$step, request, P::$method)
                }
            )*
        }
    };
}
step_table!(export_steps);

impl<P: Provider> Drop for Adapter<P> {
    fn drop(&mut self) {
        let provider = self.provider.take();
        let dropped = guard("drop", || {
            drop(provider);
            self.context.end();
            Ok(())
        });
        if let Err(error) = dropped {
            tracing::error!(%error, "the provider panicked while it was dropped");
        }
    }
}

/// Adapts the host's services for use inside a plugin.
struct RemoteHost(HostObject);

fn unwrap<T>(result: RResult<T, FfiError>) -> Result<T> {
    result.into_result().map_err(Error::from)
}

impl Host for RemoteHost {
    fn log(&self, record: LogRecord) {
        let fields = record.fields.to_string();
        self.0.log(
            record.level as u32,
            record.target.as_str().into(),
            record.message.as_str().into(),
            fields.as_str().into(),
        );
    }

    fn progress(&self, progress: Progress) {
        self.0.progress(FfiProgress {
            task: progress.task,
            unit: progress.unit as u32,
            done: progress.done,
            total: progress.total,
        });
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn wait(&self, duration: Duration) -> bool {
        self.0.wait(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    fn event(&self, event: Event) -> Result<()> {
        unwrap(self.0.event(print(&event)?.as_rstr()))
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        let value = unwrap(self.0.secret(key.into()))?;
        Ok(value.into_option().map(|text| Secret::new(text.into_string())))
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        unwrap(self.0.checkpoint_save(key.into(), print(document)?.as_rstr()))
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        match unwrap(self.0.checkpoint_load(key.into()))? {
            ROption::RSome(text) => parse(&text, "checkpoint").map(Some),
            ROption::RNone => Ok(None),
        }
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        parse(&unwrap(self.0.make_disk(print(spec)?.as_rstr()))?, "disk")
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let size = buffer.len();
        let read = unwrap(self.0.disk_read_at(disk, offset, RSliceMut::from_mut_slice(buffer)))?;
        usize::try_from(read).ok().filter(|&read| read <= size).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the host returned more bytes than were asked for")
        })
    }

    fn disk_write(&self, disk: u64, path: &Path) -> Result<WrittenDisk> {
        // The boundary has texts only; a provider copies the disk to a path that is none.
        let path = path.to_str().ok_or_else(no_disk_write)?;
        parse(&unwrap(self.0.disk_write(disk, path.into()))?, "written disk")
    }
}

/// Expansion of [`export_provider!`](crate::export_provider); not for direct use.
#[doc(hidden)]
pub mod rt {
    pub use abi_stable::library::{
        __call_root_module_loader as call_root_module_loader, CheckTypeLayout, LibHeader,
        RootModuleResult,
    };

    /// Copies the metadata text into an array, so that it is placed in a separate section of the plugin.
    #[must_use]
    pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
        let source = text.as_bytes();
        let mut target = [0; N];
        let mut position = 0;
        while position < N {
            target[position] = source[position];
            position += 1;
        }
        target
    }
}

/// Exports a [`Provider`](crate::Provider) from a plugin. Call it once per crate; the crate is a `cdylib` called
/// `build-image-provider-<name>`.
///
/// The crate's front page shows a complete provider.
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        const _: () = {
            use $crate::wire::{abi::ProviderModule_Ref, export::rt};

            assert!(
                cfg!(panic = "unwind"),
                "a provider must be built with panic = \"unwind\": a panic in it must not end the host"
            );

            fn root() -> ProviderModule_Ref {
                $crate::wire::export::Export::<$provider>::module()
            }
            extern "C" fn erased() -> rt::RootModuleResult {
                rt::call_root_module_loader(root)
            }
            // The name that abi_stable looks up; a test compares it with the crate's constant.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static HEADER: rt::LibHeader = unsafe {
                // SAFETY: `erased` returns the prefix reference of a `ProviderModule`.
                rt::LibHeader::from_constructor::<ProviderModule_Ref>(
                    erased,
                    rt::CheckTypeLayout::Yes,
                )
            };

            const TEXT: &str = concat!(
                "{\"package\":\"", env!("CARGO_PKG_NAME"),
                "\",\"version\":\"", env!("CARGO_PKG_VERSION"),
                "\",\"abi\":\"", $crate::abi_version!(), "\"}",
            );
            #[used]
            #[unsafe(link_section = ".build_image")]
            static METADATA: [u8; TEXT.len()] = rt::bytes(TEXT);
        };
    };
}

/// The ABI version as a literal, for `concat!`.
#[doc(hidden)]
#[macro_export]
macro_rules! abi_version {
    () => {
        "1.1"
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_symbol_is_the_one_that_is_looked_for() {
        assert_eq!(
            abi_stable::library::ROOT_MODULE_LOADER_NAME,
            "_1as_0lib_1header_0root_bmodule_bloader"
        );
        assert_eq!(crate::abi_version!(), crate::ABI_VERSION);
    }
}
