use std::sync::Mutex;

use super::*;
use crate::{ErrorKind, Secret, testing::MockHost};

#[test]
fn a_stop_waits_for_the_answer_of_a_call_that_creates_something_but_not_for_ever() {
    for (kept, answered) in [(true, true), (true, false), (false, true)] {
        let host = Arc::new(MockHost::default());
        let context = Context::new(Arc::clone(&host) as Arc<dyn Host>);
        let outcome = context.block_on(async {
            let call = async {
                host.cancel();
                if !answered {
                    std::future::pending::<()>().await;
                }
                // The service needs longer to answer than the stop needs to be noticed.
                let mut looks = tokio::time::interval(Duration::from_millis(50));
                for _ in 0..4 {
                    looks.tick().await;
                }
                "created"
            };
            Ok(if kept { context.until_answered(call).await } else { call.await })
        });
        if kept && answered {
            assert_eq!(outcome.unwrap(), "created");
        } else {
            assert_eq!(outcome.unwrap_err().kind, ErrorKind::Cancelled);
        }
        assert_eq!(*context.services.calls.borrow(), 0);
    }
}

#[test]
fn block_on_inside_a_future_is_an_error_and_not_a_panic() {
    let context = Context::new(Arc::new(MockHost::default()) as Arc<dyn Host>);
    let outcome: Result<()> = context.block_on(async { context.block_on(async { Ok(()) }) });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.hint.is_some() && error.message.contains("block_on"), "{error}");
}

#[test]
fn a_task_of_the_provider_awaits_the_stop() {
    let host = Arc::new(MockHost::default());
    let context = host.context();
    let outcome: Result<()> = context.block_on(async {
        let task = tokio::spawn({
            let context = context.clone();
            async move { context.cancelled().await.kind }
        });
        host.cancel();
        // The step is dropped by the stop, the task is not.
        context
            .until_answered(async { assert_eq!(task.await.unwrap(), ErrorKind::Cancelled) })
            .await;
        std::future::pending().await
    });
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::Cancelled);
    // A later step is asked again.
    assert_eq!(
        context.block_on(std::future::pending::<Result<()>>()).unwrap_err().kind,
        ErrorKind::Cancelled
    );
    context.end();
    assert_eq!(context.block_on(async { Ok(()) }).unwrap_err().kind, ErrorKind::Internal);
}

/// Records how it is asked whether to stop; the fifth wait ends with a stop.
#[derive(Default)]
struct Asked {
    mock: MockHost,
    waits: Mutex<Vec<u128>>,
}

impl Host for Asked {
    fn log(&self, record: LogRecord) {
        self.mock.log(record);
    }

    fn progress(&self, progress: Progress) {
        self.mock.progress(progress);
    }

    fn is_cancelled(&self) -> bool {
        panic!("the host is polled");
    }

    fn wait(&self, duration: Duration) -> bool {
        let mut waits = self.waits.lock().expect("no panic before");
        waits.push(duration.as_millis());
        waits.len() == 5
    }

    fn event(&self, event: Event) -> Result<()> {
        self.mock.event(event)
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        self.mock.secret(key)
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.mock.checkpoint_save(key, document)
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        self.mock.checkpoint_load(key)
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        self.mock.make_disk(spec)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.mock.disk_read_at(disk, offset, buffer)
    }
}

#[test]
fn a_blocked_future_waits_in_the_host_instead_of_polling_it() {
    let host = Arc::new(Asked::default());
    let context = Context::new(Arc::clone(&host) as Arc<dyn Host>);
    let begun = std::time::Instant::now();
    let outcome = context.block_on(std::future::pending::<Result<()>>());
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::Cancelled);
    // Although this host returns at once, its waits are not repeated faster than asked for.
    assert_eq!(*host.waits.lock().unwrap(), [5, 10, 20, 40, 80]);
    assert!(begun.elapsed() >= Duration::from_millis(75), "{:?}", begun.elapsed());
}
