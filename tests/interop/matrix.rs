//! What every foreign client must be able to do, over every transport, in every version.

use crate::agent::{Agent, Endpoint, Login, Message, Order, Properties};

/// Longer than one WebSocket frame with a 16-bit length, than a TLS record, and than any socket buffer read at once.
const LARGE: usize = 200_000;

/// A foreign client at one listener, in one version.
pub struct Bench<'a> {
    pub agent: &'a mut Agent,
    pub endpoint: &'a Endpoint,
    pub version: u8,
}

impl Bench<'_> {
    /// Everything.
    pub fn run(&mut self) {
        self.every_qos_arrives();
        self.a_large_message_arrives_whole();
        self.a_retained_message_waits_and_goes();
        self.a_will_is_published_for_who_vanishes_and_not_for_who_leaves();
        self.a_session_keeps_what_came_while_it_was_away();
        if self.version == 5 {
            self.properties_arrive();
        }
    }

    fn login(&self) -> Login {
        Login::new(self.endpoint, self.version)
    }

    fn connect_as(&mut self, client: &str, login: Login) -> Option<bool> {
        self.agent.carry_out(Order::Connect { client: client.to_owned(), login }).session_present
    }

    fn connect(&mut self, client: &str) {
        let login = self.login();
        let present = self.connect_as(client, login);
        assert_ne!(present, Some(true), "{client}: a clean session");
    }

    fn subscribe(&mut self, client: &str, filter: &str, qos: u8) {
        let done = self.agent.carry_out(Order::Subscribe {
            client: client.to_owned(),
            filter: filter.to_owned(),
            qos,
        });
        assert_eq!(done.granted, Some(qos), "{client}: {filter}");
    }

    fn publish(&mut self, client: &str, message: &Message) {
        self.agent.carry_out(Order::Publish { client: client.to_owned(), message: message.clone() });
    }

    fn leave(&mut self, client: &str) {
        self.agent.carry_out(Order::Leave { client: client.to_owned() });
        assert_eq!(self.agent.untaken(client), [], "{client}: nothing came twice");
    }

    fn vanish(&mut self, client: &str) {
        self.agent.carry_out(Order::Vanish { client: client.to_owned() });
    }

    fn every_qos_arrives(&mut self) {
        self.connect("talker");
        for granted in 0..=2 {
            let listener = format!("listener-{granted}");
            self.connect(&listener);
            self.subscribe(&listener, "互通/+", granted);
            for sent in 0..=2 {
                let message = Message::new(&format!("互通/{sent}"), sent, &format!("压力 {sent}"));
                self.publish("talker", &message);
                let wanted = Message { qos: sent.min(granted), ..message };
                assert_eq!(self.agent.take(&listener), wanted, "QoS {sent} to a subscription of {granted}");
            }
            self.leave(&listener);
        }
        self.leave("talker");
    }

    fn a_large_message_arrives_whole(&mut self) {
        self.connect("sender");
        self.connect("receiver");
        self.subscribe("receiver", "大", 1);
        let payload = (0..LARGE).map(|at| (at % 251) as u8).collect();
        let message = Message { payload, ..Message::new("大", 1, "") };
        self.publish("sender", &message);
        assert!(self.agent.take("receiver") == message, "the large message was changed");
        self.leave("receiver");
        self.leave("sender");
    }

    fn a_retained_message_waits_and_goes(&mut self) {
        self.connect("keeper");
        let kept = Message::new("状态/泵", 1, "运行").retained();
        self.publish("keeper", &kept);
        self.connect("late");
        self.subscribe("late", "状态/#", 2);
        assert_eq!(self.agent.take("late"), kept);

        self.publish("keeper", &Message::new("状态/泵", 1, "").retained());
        let told = self.agent.take("late");
        assert_eq!((told.payload.len(), told.retain), (0, false), "who is there hears of the removal");
        self.connect("later");
        self.subscribe("later", "状态/#", 2);
        let last = Message::new("状态/门", 1, "开");
        self.publish("keeper", &last);
        assert_eq!(self.agent.take("later"), last, "nothing retained came first");
        assert_eq!(self.agent.take("late"), last);
        for client in ["keeper", "late", "later"] {
            self.leave(client);
        }
    }

    fn a_will_is_published_for_who_vanishes_and_not_for_who_leaves(&mut self) {
        self.connect("watcher");
        self.subscribe("watcher", "遗嘱/#", 2);
        for (client, qos) in [("leaves", 1), ("vanishes", 2)] {
            let will = Message::new(&format!("遗嘱/{client}"), qos, "再见");
            let login = Login { will: Some(will), ..self.login() };
            self.connect_as(client, login);
        }
        self.leave("leaves");
        self.vanish("vanishes");
        assert_eq!(self.agent.take("watcher"), Message::new("遗嘱/vanishes", 2, "再见"));
        self.connect("reporter");
        self.publish("reporter", &Message::new("遗嘱/完", 1, ""));
        assert_eq!(self.agent.take("watcher"), Message::new("遗嘱/完", 1, ""), "no will of who left");
        self.leave("reporter");
        self.leave("watcher");
    }

    fn a_session_keeps_what_came_while_it_was_away(&mut self) {
        let durable = Login { clean: false, ..self.login() };
        assert_ne!(self.connect_as("sleeper", durable.clone()), Some(true), "it is new");
        self.subscribe("sleeper", "离线/#", 2);
        self.connect("caller");
        let mut count = 0;
        for goes in [Self::leave, Self::vanish] {
            goes(self, "sleeper");
            let missed: Vec<_> = [1, 2, 2, 1]
                .into_iter()
                .map(|qos| {
                    count += 1;
                    Message::new(&format!("离线/{qos}"), qos, &count.to_string())
                })
                .collect();
            for message in &missed {
                self.publish("caller", message);
            }
            let present = self.connect_as("sleeper", durable.clone());
            assert_ne!(present, Some(false), "the session is still there");
            // Nothing is promised between topics: a client may hold QoS 2 back until PUBREL.
            let by_topic = |mut messages: Vec<Message>| {
                messages.sort_by(|a, b| a.topic.cmp(&b.topic)); // stable
                messages
            };
            let taken = missed.iter().map(|_| self.agent.take("sleeper")).collect();
            assert_eq!(by_topic(taken), by_topic(missed));
        }
        self.publish("caller", &Message::new("离线/醒", 1, "now"));
        assert_eq!(self.agent.take("sleeper"), Message::new("离线/醒", 1, "now"), "nothing came twice");
        self.leave("sleeper");
        self.leave("caller");
    }

    fn properties_arrive(&mut self) {
        self.connect("asker");
        self.connect("answerer");
        self.subscribe("answerer", "问/#", 1);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let properties = Properties {
            user: vec![pair("地点", "三楼"), pair("again", "1"), pair("again", "2")],
            content_type: "text/plain".to_owned(),
            response_topic: "答/asker".to_owned(),
            correlation: vec![0, 1, 255],
        };
        let message = Message { properties: Some(properties), ..Message::new("问/温度", 1, "?") };
        self.publish("asker", &message);
        assert_eq!(self.agent.take("answerer"), message);
        self.leave("answerer");
        self.leave("asker");
    }
}
