//! The device and publisher library of Reveille, on rumqttc.
