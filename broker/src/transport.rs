//! How bytes travel below MQTT.

pub(crate) mod tcp;
