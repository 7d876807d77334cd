//! The states of a message on its way to one device (the funnel), and which may follow which.
