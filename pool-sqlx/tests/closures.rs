//! Which closures `run_tx` takes, and which helpers.

#[test]
fn every_shape_is_taken() {
    trybuild::TestCases::new().pass("tests/closures/accepted/*.rs");
}
