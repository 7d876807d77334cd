//! What became of an app's deliveries, over time.

use axum::extract::{Path, State};
use axum::response::Response;

use super::Page;
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::Refusal;
use crate::console::form::Query;
use crate::console::view::statistics::{RANGES, Shown, statistics};
use crate::console::visitor::Visitor;
use crate::statistics::{self, Asked, By};

/// A dimension by its name in the address.
fn by_name(name: &str) -> Option<By> {
    By::ALL.into_iter().find(|by| by.name() == name)
}

/// The page.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Read)?;
        let [usual, ..] = &RANGES;
        let range = RANGES.iter().find(|range| range.name == query.text("range")).unwrap_or(usual);
        let by = by_name(query.text("by"));
        let now_ms = console.shared.store.now_ms();
        let from_ms = now_ms.saturating_sub(range.length_ms);
        let asked = Asked::new(Some(from_ms), Some(now_ms), Some(range.step), by, now_ms)
            .map_err(|error| Refusal::new(400, error.to_string()))?;
        let read = move |tx: &crate::store::Tx<'_>| {
            let all = statistics::read(tx, &id, &Asked { by: None, ..asked })?;
            let apart = if asked.by.is_some() { statistics::read(tx, &id, &asked)? } else { Vec::new() };
            Ok::<_, crate::store::StoreError>((all.into_iter().next(), apart))
        };
        let (all, apart) = console.shared.store.read(read).await?;
        let context = visitor.context(Some(&app));
        let kept_from_ms = asked.span().kept_from_ms(now_ms);
        let shown = Shown { range: range.name, step: range.step, asked, kept_from_ms, all, apart };
        Ok(Page::new(context.texts.statistics, "statistics", statistics(&context, &shown)))
    };
    visitor.answer(Some(&app), made.await)
}
