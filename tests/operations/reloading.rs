//! SIGHUP: the configuration file is read again.

use reveille_tests::program::{Reveille, wait_for};

fn wait_for_log(reveille: &Reveille, words: &str) -> String {
    wait_for(words, || reveille.errors().lines().find(|line| line.contains(words)).map(str::to_owned))
}

#[test]
fn a_hangup_changes_what_can_change_and_names_what_cannot() {
    let reveille = Reveille::start_with("log = 'info'\n[broker]\nshards = 1\n");
    reveille.rewrite_config(
        "log = 'info,reveille_store=warn'\n[broker]\nshards = 2\n[broker.limits]\nqueue_messages_max = 7\n[[broker.push_rules]]\nfilter = 'alarm/#'\n\
         title = 'Alarm'\nbody = '{payload}'\n[bridge]\nttl_s = 60\n",
    );
    reveille.signal("HUP");
    for key in ["broker.shards", "bridge"] {
        wait_for(key, || {
            let is_named =
                |line: &&str| line.contains("next start") && line.contains(&format!("key=\"{key}\""));
            reveille.errors().lines().find(is_named).map(str::to_owned)
        });
    }
    let line = wait_for_log(&reveille, "the configuration was read again");
    for key in ["log", "broker.push_rules", "broker.limits"] {
        assert!(line.contains(&format!("\"{key}\"")), "{key}: {line}");
    }
    assert!(!reveille.errors().contains("key=\"data_dir\""), "{}", reveille.errors());
}

#[test]
fn a_file_with_an_error_changes_nothing_and_says_why() {
    let mut reveille = Reveille::start_with("log = 'info'\n");
    reveille.rewrite_config("log = 'debug'\n[broker]\nlisten = '0.0.0.0:1883'\nqueue = 5\n");
    reveille.signal("HUP");
    let line = wait_for_log(&reveille, "nothing changed");
    assert!(line.contains("reveille.toml:4:1") && line.contains("queue"), "{line}");
    reveille.rewrite_config("log = 'debug'\n[[broker.users]]\nname = 'a'\npassword = ''\n");
    reveille.signal("HUP");
    wait_for_log(&reveille, "empty password");
    let (status, errors) = reveille.terminate();
    assert!(status.success());
    assert!(!errors.contains("DEBUG"), "the log filter did not change: {errors}");
}

#[test]
fn without_a_file_there_is_nothing_to_read() {
    let mut reveille = Reveille::start();
    reveille.signal("HUP");
    wait_for_log(&reveille, "there is no configuration file to read");
    assert!(reveille.is_running());
}
