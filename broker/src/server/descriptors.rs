//! The limit of open files: one for each connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises our limit to what the system allows us; returns what it is then, `None` when there is none.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current, // serving with fewer connections is better than not serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_the_system_allows() {
        let allowed = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), allowed);
        assert_eq!(getrlimit(Resource::Nofile).current, allowed);
    }
}
