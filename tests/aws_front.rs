//! Judges with boto3 what the tests of AWS rely on: moto behind the strict front.

use crate::harness::Aws;

#[test]
fn boto3_accepts_the_front_and_every_refusal_is_the_vendors() {
    let Some(server) = Aws::shared() else { return };
    let output = server.python("self-test", &[server.url()]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    println!("{shown}");
}
