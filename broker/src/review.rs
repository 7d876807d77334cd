//! Clients that are connected when something changes about who may be: a walk over a shard, a bounded piece a turn.

use crate::auth::bans::{Banned, Suspect};
use crate::auth::review::Review;
use crate::host::Host;
use crate::shared::Shared;
use reveille_broker_core::acl::Who;
use reveille_broker_core::admin::{ConnectionView, LOOKS_MAX, SessionFilter, SessionView};
use reveille_broker_core::io::{Input, Opening};
use reveille_proto::reason::ReasonCode;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::yield_now;

/// Whether a client that passed the handshake was banned meanwhile.
pub(crate) fn is_banned(shared: &Shared, opening: &Opening) -> bool {
    let suspect = Suspect {
        app: opening.identity.app.as_str(),
        client_id: opening.client_id.as_str(),
        user: opening.identity.user.as_deref(),
        address: opening.network.parse().ok(),
    };
    !opening.identity.is_bridge && shared.bans.is_banned(suspect, shared.clock.now())
}

/// Ends the connections whose credential is gone, and gives the others the rules that hold now.
pub(crate) async fn after_reload(host: Rc<Host>) {
    let auth = host.shared.auth.load_full();
    let look = |session: &SessionView, connection: &ConnectionView| {
        let (app, client_id) = (session.app.clone(), session.client_id.clone());
        let who = Who { user: connection.user.as_deref(), client_id: client_id.as_str(), app: app.as_str() };
        match auth.review(who, connection.source, connection.has_own_acl) {
            Review::Unchanged => None,
            Review::Permit(acl) => Some(Input::Permit { app, client_id, acl }),
            Review::End => Some(Input::Kick { app, client_id, reason: ReasonCode::NOT_AUTHORIZED }),
        }
    };
    walk(&host, look).await;
}

/// Ends the connections of whom a ban means.
pub(crate) async fn after_ban(host: Rc<Host>, banned: Arc<Banned>) {
    let look = |session: &SessionView, connection: &ConnectionView| {
        let (app, client_id) = (session.app.clone(), session.client_id.clone());
        let suspect = Suspect {
            app: app.as_str(),
            client_id: client_id.as_str(),
            user: connection.user.as_deref(),
            address: connection.network.parse().ok(),
        };
        // DISCONNECT has no word for a ban.
        let reason = ReasonCode::ADMINISTRATIVE_ACTION;
        banned.means(suspect).then(|| Input::Kick { app: app.clone(), client_id: client_id.clone(), reason })
    };
    walk(&host, look).await;
}

async fn walk(host: &Host, look: impl Fn(&SessionView, &ConnectionView) -> Option<Input>) {
    let filter = SessionFilter { is_online: Some(true), ..SessionFilter::default() };
    let mut place = Some(0);
    while let Some(from) = place {
        let page = host.look(|shard| shard.sessions(&filter, from, LOOKS_MAX));
        for session in page.items.iter().filter(|session| !session.is_bridge) {
            if let Some(input) = session.connection.as_ref().and_then(|connection| look(session, connection))
            {
                host.feed(input);
            }
        }
        place = page.next;
        yield_now().await;
    }
}
