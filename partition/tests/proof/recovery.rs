//! Power cuts at any moment, with cleaning all the time: what was acknowledged is there, what is there was proposed, and
//! the log stays short.
