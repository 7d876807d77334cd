//! `reveille passwd`: what it writes lets in whom it should, and what it cannot do it says in one line.

use reveille_proto::mqtt::{Connect, Packet, Version};
use reveille_proto::reason::ReasonCode;
use reveille_tests::program::{Reveille, run_with_input};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

fn passwd(args: &[&str], input: &str) -> Result<(), String> {
    let mut all = vec!["passwd"];
    all.extend(args);
    let output = run_with_input(&all, input);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {
            assert_eq!(errors, "");
            Ok(())
        }
        Some(1) => Err(errors),
        other => panic!("{other:?}: {errors}"),
    }
}

fn connack(broker: SocketAddr, user: &str, password: &str) -> ReasonCode {
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: user.into(),
        will: None,
        username: Some(user.into()),
        password: Some(password.as_bytes().to_vec().into()),
        properties: Default::default(),
    };
    let mut bytes = bytes::BytesMut::new();
    Packet::Connect(Box::new(connect)).write(Version::V5, &mut bytes).unwrap();
    let mut socket = TcpStream::connect(broker).unwrap();
    socket.set_read_timeout(Some(reveille_tests::PATIENCE)).unwrap();
    socket.write_all(&bytes).unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], 0x20, "a CONNACK");
    ReasonCode::from_u8(answer[3]).unwrap()
}

#[test]
fn a_user_that_was_written_comes_in_and_one_that_was_deleted_does_not_after_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passwords");
    let file = path.to_str().unwrap();
    passwd(&[file, "ann"], "tulip\n").unwrap();
    passwd(&[file, "bob", "--scram", "--app", "shop"], "rose").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("tulip") && !text.contains("rose"), "{text}");
    assert!(text.contains("ann:$argon2id$") && text.contains("bob:$scram-sha-256$"), "{text}");
    let reveille = Reveille::start_broker_with(&format!(
        "[broker.auth]\npassword_file = {file:?}\nuser_failures_max = 0\n"
    ));
    for (user, password, wanted) in [
        ("ann", "tulip", ReasonCode::SUCCESS),
        ("bob", "rose", ReasonCode::SUCCESS),
        ("bob", "tulip", ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        ("eve", "tulip", ReasonCode::BAD_USER_NAME_OR_PASSWORD),
    ] {
        assert_eq!(connack(reveille.mqtt(), user, password), wanted, "{user} {password}");
    }
    passwd(&[file, "ann", "--delete"], "").unwrap();
    passwd(&[file, "bob"], "violet\n").unwrap();
    reveille.signal("HUP");
    let end = std::time::Instant::now() + reveille_tests::PATIENCE;
    while connack(reveille.mqtt(), "bob", "violet") != ReasonCode::SUCCESS {
        assert!(std::time::Instant::now() < end, "the file was not read again");
        std::thread::yield_now();
    }
    assert_eq!(connack(reveille.mqtt(), "ann", "tulip"), ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passwords");
    let file = path.to_str().unwrap();
    passwd(&[file, "ann"], "tulip\n").unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    let long = "x".repeat(70_000);
    for (args, input, wanted) in [
        (&[file, "a:b"][..], "x\n", "user name"),
        (&[file, "ann"], "\n", "empty"),
        (&[file, "ann"], long.as_str(), "65,535"),
        (&[file, "ann", "--app", "No App"], "x\n", "app id"),
        (&[file, "bob", "--delete"], "", "bob"),
        (&["/no/such/directory/file", "ann"], "x\n", "/no/such/directory/file"),
    ] {
        let error = passwd(args, input).unwrap_err();
        assert!(error.contains(wanted) && error.trim_end().lines().count() == 1, "{args:?}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    std::fs::write(&path, "ann:plain\n").unwrap();
    let error = passwd(&[file, "ann"], "x\n").unwrap_err();
    assert!(error.contains("passwords:1:"), "{error}");
}
