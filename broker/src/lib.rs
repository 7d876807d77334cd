//! The MQTT broker: listeners, shards, durability, feed to the bridge, operations HTTP.
