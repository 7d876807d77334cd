//! The demo is a test that users can see: it must succeed.

use reveille_tests::program::run_to_end;

#[test]
fn the_demo_tells_its_whole_story() {
    let output = run_to_end(&["demo"]);
    let (story, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{story}\n{errors}");
    for part in
        ["SIGKILL", "drained its queue in order", "none of them twice", "pushes taken", "nothing lost"]
    {
        assert!(story.contains(part), "{part:?} is missing in {story}");
    }
    assert_eq!(errors, "");
}
