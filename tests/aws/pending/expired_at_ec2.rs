/// EC2 has one code for an old request and for expired credentials.
#[test]
fn credentials_that_end_at_ec2_are_renewed_as_well() {
    let Some(server) = Aws::shared() else { return };
    for at in
        [("ec2", "RegisterImage", 1), ("ec2", "RegisterImage", 2), ("ec2", "DescribeSnapshots", 2)]
    {
        renewed(&server.account(&json!({})), at);
    }
}
