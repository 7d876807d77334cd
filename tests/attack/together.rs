//! All attacks at once.

use crate::target::{Damage, Target};
use crate::{
    aliases, connect_flood, malformed, properties, qos2, rounds, slow_loris, subscription_bomb, topic_bomb,
    unread,
};
use std::thread;

#[test]
fn everything_at_once() {
    Target::start().suffer("everything at once", rounds(), |target| {
        let attacks: [fn(&Target) -> Damage; 9] = [
            malformed::run,
            slow_loris::run,
            connect_flood::run,
            topic_bomb::run,
            subscription_bomb::run,
            unread::run,
            qos2::run,
            aliases::run,
            properties::run,
        ];
        let count = thread::scope(|scope| {
            let threads: Vec<_> =
                attacks.into_iter().map(|attack| scope.spawn(move || attack(target))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().count).sum()
        });
        Damage { what: "acts", count }
    });
}
