//! What goes wrong before anything is served.

use reveille_tests::program::{Reveille, run_to_end, run_to_end_with};
use std::path::Path;
use std::process::Output;

/// Asserts one line on standard error with these words, nothing on standard output, and exit code 1.
fn assert_refused(output: &Output, words: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is missing in {errors}");
    }
}

fn run_in(data: &Path, args: &[&str]) -> Output {
    let mut all =
        vec!["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    all.extend(args);
    run_to_end(&all)
}

#[test]
fn a_wrong_key_is_named_with_file_and_line_by_run_and_check_config() {
    let rows = [
        ("data_dir = 'x'\nprot = 1883\n", "bad.toml:2:", "prot"),
        ("[broker]\nlisten = 1883\n", "bad.toml:2:", "listen"),
        ("[broker.limits]\nqueue_mesages_max = 5\n", "bad.toml:2:", "queue_mesages_max"),
        ("[bridge]\nno_such = 5\n", "bad.toml:2:", "no_such"),
        ("[broker]\nlisten = '0.0.0.0:1883'\n", "bad.toml: ", "allow_anonymous"),
        ("this is no TOML\n", "bad.toml:1:", ""),
        ("[broker.auth]\npassword_file = '/no/such/passwords'\n", "/no/such/passwords", "password_file"),
        ("[broker.auth]\nsources = ['jwt']\n", "bad.toml: ", "auth.sources"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    let file = path.to_str().unwrap();
    for (text, place, word) in rows {
        std::fs::write(&path, text).unwrap();
        assert_refused(&run_to_end(&["check-config", file]), &[place, word]);
        assert_refused(&run_in(&directory.path().join("data"), &["--config", file]), &[place, word]);
    }
    assert_refused(&run_to_end(&["check-config", "/no/such/file.toml"]), &["/no/such/file.toml"]);
}

#[test]
fn a_good_file_is_said_to_be_good_by_silence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("good.toml");
    std::fs::write(&path, "data_dir = 'd'\nlog = 'info'\n[broker]\nlisten = '127.0.0.1:0'\n").unwrap();
    let output = run_to_end(&["check-config", path.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_busy_port_is_named_and_the_owner_does_not_notice() {
    let mut owner = Reveille::start();
    for (flag, taken) in [("--mqtt", owner.mqtt()), ("--http", owner.http())] {
        let data = tempfile::tempdir().unwrap();
        let mut args = vec!["run", "--data-dir", data.path().to_str().unwrap()];
        let taken = taken.to_string();
        let other = if flag == "--mqtt" { "--http" } else { "--mqtt" };
        args.extend([flag, &taken, other, "127.0.0.1:0"]);
        assert_refused(&run_to_end(&args), &[&taken, "in use"]);
    }
    assert!(owner.is_running());
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    assert_refused(&run_in(&file, &[]), &[file.to_str().unwrap()]);
    // The kernel lets nobody create anything there, not even root.
    assert_refused(&run_in(Path::new("/proc/reveille"), &[]), &["/proc/reveille"]);
}

#[test]
fn a_data_directory_that_another_process_uses_is_refused() {
    let mut owner = Reveille::start();
    let data = owner.directory().join("data");
    assert_refused(&run_in(&data, &[]), &[data.to_str().unwrap()]);
    assert!(owner.is_running());
}

#[test]
fn usage_errors_have_exit_code_2() {
    for args in [&["run", "--mqtt", "nowhere"][..], &["fly"], &["run", "--no-such-flag"], &["check-config"]] {
        let output = run_to_end(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn sigterm_ends_it_gracefully_with_0_and_without_a_word() {
    let mut reveille = Reveille::start();
    let (status, errors) = reveille.terminate();
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
    reveille.start_again();
    assert!(reveille.is_running());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file_also_without_a_subcommand() {
    let owner = Reveille::start();
    let taken = owner.mqtt().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let path = directory.path().join("file.toml");
    let file = path.to_str().unwrap();
    let in_file = |listen: &str| std::fs::write(&path, format!("[broker]\nlisten = '{listen}'\n")).unwrap();
    let no_flags = |mqtt| [("REVEILLE_CONFIG", file), ("REVEILLE_DATA_DIR", data), ("REVEILLE_MQTT", mqtt)];

    // What counts is the address in use: the refusal names it.
    in_file(&taken);
    let file_only = [("REVEILLE_CONFIG", file), ("REVEILLE_DATA_DIR", data)];
    assert_refused(&run_to_end_with(&[], &file_only), &[&taken, "in use"]);
    in_file("127.0.0.1:0");
    assert_refused(&run_to_end_with(&[], &no_flags(&taken)), &[&taken, "in use"]);
    let flag = ["run", "--mqtt", &taken];
    assert_refused(&run_to_end_with(&flag, &no_flags("127.0.0.1:0")), &[&taken, "in use"]);
    assert!(!Path::new(data).join("bridge").exists(), "nothing was started");
}
