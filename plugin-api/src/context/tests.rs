use super::*;
use crate::testing::MockHost;

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
                let mut looks = tokio::time::interval(CANCEL_POLL);
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
        assert_eq!(context.calls.load(Ordering::SeqCst), 0);
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
