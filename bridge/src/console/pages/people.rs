//! People with a password: added, removed, and another password for oneself.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reveille_proto::ids::AppId;

use super::compose::wrong_field;
use super::keys::refused;
use super::{Page, done};
use crate::apps::{self, Access, HashedPassword, KeyView, PersonName, keep_person};
use crate::console::Here;
use crate::console::door::Refusal;
use crate::console::form::{Fields, Posted};
use crate::console::view::fields::Filled;
use crate::console::view::people::{list as list_view, password as password_view};
use crate::console::visitor::Visitor;
use crate::store::{StoreError, Tx};

/// Characters of a password at least. Length beats rules of composition (NIST SP 800-63B).
const PASSWORD_MIN: usize = 12;
/// Bytes of a password at most.
const PASSWORD_MAX: usize = 256;

/// Everybody.
pub(in crate::console) async fn list(visitor: Visitor, State(console): State<Here>) -> Response {
    let filled = Filled { fields: Fields::of(&[("scope", "read")]), refusal: None };
    let made = page(&console, &visitor, &filled).await;
    visitor.answer(None, made)
}

async fn page(console: &Here, visitor: &Visitor, filled: &Filled) -> Result<Page, Refusal> {
    visitor.check_operator()?;
    let all = console.shared.store.read(apps::all_keys).await?;
    let (people, keys): (Vec<KeyView>, Vec<KeyView>) = all.into_iter().partition(KeyView::is_person);
    let keys: Vec<_> = keys.into_iter().filter(|key| key.app.is_none()).collect();
    let context = visitor.context(None);
    Ok(Page::new(context.texts.people, "people", list_view(&context, &people, &keys, filled)))
}

/// Adds somebody.
pub(in crate::console) async fn add(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    match keep(&console, &visitor, &fields).await {
        Ok(()) => done("/console/people", "done_person"),
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let made = page(&console, &visitor, &filled).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, None, made)
        }
    }
}

async fn keep(console: &Here, visitor: &Visitor, fields: &Fields) -> Result<(), Refusal> {
    visitor.check_operator()?;
    let texts = visitor.texts();
    let name =
        PersonName::parse(fields.text("name")).ok_or_else(|| wrong_field("/name", texts.person_name_hint))?;
    let app = match fields.some("app") {
        Some(app) => Some(visitor.check(app, Access::Admin)?),
        None => None,
    };
    let scopes = scopes(fields);
    if scopes.is_empty() {
        return Err(wrong_field("/scope", texts.scope_missing));
    }
    let password = hashed(visitor, fields.text("password")).await?;
    let id = name.key_id();
    let write = move |tx: &mut Tx<'_>| {
        if apps::all_keys(tx)?.iter().any(|known| known.id == id) {
            return Ok(false);
        }
        keep_person(tx, &name, app.as_ref(), scopes, &password)?;
        Ok::<_, StoreError>(true)
    };
    match console.shared.store.write(write).await? {
        true => Ok(()),
        false => Err(wrong_field("/name", texts.person_exists)),
    }
}

fn scopes(fields: &Fields) -> BTreeSet<Access> {
    let scope = |name: &str| match name {
        "send" => Some(Access::Send),
        "read" => Some(Access::Read),
        "admin" => Some(Access::Admin),
        _ => None,
    };
    fields.all("scope").into_iter().filter_map(scope).collect()
}

async fn hashed(visitor: &Visitor, password: &str) -> Result<HashedPassword, Refusal> {
    if password.chars().count() < PASSWORD_MIN || password.len() > PASSWORD_MAX {
        return Err(wrong_field("/password", visitor.texts().password_hint));
    }
    let password = password.to_owned();
    let hashed = tokio::task::spawn_blocking(move || HashedPassword::of(&password)).await;
    hashed.map_err(|_| Refusal::from(StoreError::Closed))
}

/// Removes a person, or a key that opens every app. Whoever logged in with it is out.
pub(in crate::console) async fn remove(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    let removed = async {
        visitor.check_operator()?;
        let id = fields.text("id").to_owned();
        let removed = console.shared.store.write(move |tx| apps::remove_key(tx, None, &id)).await;
        removed.map_err(|error| refused(&visitor, &error))?;
        console.shared.keys.forget(fields.text("id"));
        console.sessions.end_of(fields.text("id"), None);
        Ok(())
    };
    match removed.await {
        Ok(()) => done("/console/people", "done_removed"),
        Err(refused) => visitor.answer(None, Err(refused)),
    }
}

/// The form for another password.
pub(in crate::console) async fn password(visitor: Visitor) -> Response {
    let made = password_page(&visitor, &Filled::default());
    visitor.answer(None, made)
}

fn own_name(visitor: &Visitor) -> Result<PersonName, Refusal> {
    visitor.caller.key_id.strip_prefix('@').and_then(PersonName::parse).ok_or_else(Refusal::missing)
}

fn password_page(visitor: &Visitor, filled: &Filled) -> Result<Page, Refusal> {
    own_name(visitor)?;
    let context = visitor.context(None);
    Ok(Page::new(context.texts.change_password, "", password_view(&context, filled)))
}

/// Another password; whoever is logged in elsewhere with the old one is out.
pub(in crate::console) async fn set_password(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    match change(&console, &visitor, &fields).await {
        Ok(()) => done("/console/password", "done_saved"),
        Err(refused) => {
            let made = password_page(&visitor, &Filled { fields: Fields::default(), refusal: Some(refused) });
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, None, made)
        }
    }
}

async fn change(console: &Here, visitor: &Visitor, fields: &Fields) -> Result<(), Refusal> {
    let name = own_name(visitor)?;
    let texts = visitor.texts();
    let key_id = name.key_id();
    let known = console.shared.keys.verify_password(key_id.trim_start_matches('@'), fields.text("old")).await;
    known.map_err(|_| wrong_field("/old", texts.login_wrong))?;
    let password = hashed(visitor, fields.text("password")).await?;
    let id = key_id.clone();
    let write = move |tx: &mut Tx<'_>| {
        let Some(kept) = apps::all_keys(tx)?.into_iter().find(|known| known.id == id) else { return Ok(()) };
        let app = kept.app.as_deref().and_then(|app| AppId::parse(app).ok());
        keep_person(tx, &name, app.as_ref(), kept.scopes, &password)
    };
    console.shared.store.write(write).await?;
    console.sessions.end_of(&key_id, Some(&visitor.session));
    Ok(())
}
