//! The frame around every page: navigation, head line, choices of language and light.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use reveille_proto::ids::AppId;

use super::parts::{csrf, icon};
use crate::apps::{Access, App, Caller};
use crate::console::assets::{ICON, SCRIPT, STYLE};
use crate::console::door::encode;
use crate::console::texts::{Language, Texts};
use crate::console::visitor::{Light, Look};

/// Whom a page is made for.
pub(in crate::console) struct Context<'a> {
    pub texts: &'static Texts,
    pub look: Look,
    pub caller: &'a Caller,
    pub csrf: &'a str,
    pub apps: &'a [App],
    /// The app that the page is about.
    pub app: Option<&'a str>,
    /// The page itself.
    pub here: &'a str,
}

impl Context<'_> {
    /// Whether the visitor may do this in the page's app.
    pub fn may(&self, access: Access) -> bool {
        let app = self.app.and_then(|app| AppId::parse(app).ok());
        app.is_some_and(|app| self.caller.may(&app, access))
    }

    /// A way on, for whoever may go there.
    pub fn offer<'p>(&self, access: Access, path: &'p str, text: &'p str) -> Option<(&'p str, &'p str)> {
        self.may(access).then_some((path, text))
    }

    /// A path below the page's app.
    pub fn path(&self, rest: &str) -> String {
        format!("/console/apps/{}{rest}", self.app.unwrap_or_default())
    }
}

/// A page's own part.
#[derive(Default)]
pub(in crate::console) struct Content {
    pub title: String,
    /// The navigation's entry that it belongs to.
    pub section: &'static str,
    /// Beside the title.
    pub actions: Option<Markup>,
    pub body: Markup0,
}

/// Markup that begins empty.
pub(in crate::console) struct Markup0(pub Markup);

impl Default for Markup0 {
    fn default() -> Self {
        Self(PreEscaped(String::new()))
    }
}

impl From<Markup> for Markup0 {
    fn from(markup: Markup) -> Self {
        Self(markup)
    }
}

fn head(texts: &Texts, look: Look, title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content=(match look.light {
                Light::System => "light dark",
                Light::Bright => "light",
                Light::Dark => "dark",
            });
            title { (title) " · " (texts.product) }
            link rel="icon" href=(ICON.path()) type="image/svg+xml";
            link rel="stylesheet" href=(STYLE.path());
            script src=(SCRIPT.path()) defer {}
        }
    }
}

/// A whole page.
pub(in crate::console) fn page(context: &Context<'_>, content: Content) -> Markup {
    let texts = context.texts;
    html! {
        (DOCTYPE)
        html lang=(context.look.language.tag()) data-light=(context.look.light.name()) {
            (head(texts, context.look, &content.title))
            body {
                a.skip href="#main" { (texts.skip_to_content) }
                div.frame {
                    (sidebar(context, content.section))
                    div.column {
                        (top_bar(context))
                        main #main tabindex="-1" {
                            div.title-row {
                                h1 { (content.title) }
                                @if let Some(actions) = &content.actions { div.actions { (actions) } }
                            }
                            (content.body.0)
                        }
                    }
                }
            }
        }
    }
}

/// A page for somebody who is not logged in.
pub(in crate::console) fn plain(texts: &Texts, look: Look, title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(look.language.tag()) data-light=(look.light.name()) {
            (head(texts, look, title))
            body.plain { main #main { (body) } }
        }
    }
}

struct Entry {
    section: &'static str,
    text: &'static str,
    icon: &'static str,
    path: String,
    is_open: bool,
}

fn sidebar(context: &Context<'_>, section: &str) -> Markup {
    let texts = context.texts;
    let of_app = |section, text, icon, rest: &str, access| Entry {
        section,
        text,
        icon,
        path: context.path(rest),
        is_open: context.may(access),
    };
    let app_entries = [
        of_app("overview", texts.overview, "overview", "", Access::Read),
        of_app("messages", texts.messages, "messages", "/messages", Access::Read),
        of_app("compose", texts.compose, "compose", "/compose", Access::Send),
        of_app("schedules", texts.schedules, "schedules", "/schedules", Access::Read),
        of_app("templates", texts.templates, "templates", "/templates", Access::Read),
        of_app("statistics", texts.statistics, "statistics", "/statistics", Access::Read),
        of_app("events", texts.live_events, "events", "/events", Access::Read),
        of_app("devices", texts.devices, "devices", "/devices", Access::Read),
        of_app("audiences", texts.tags_and_segments, "audiences", "/audiences", Access::Read),
        of_app("policies", texts.policies, "policies", "/policies", Access::Read),
        of_app("vendors", texts.vendors, "vendors", "/vendors", Access::Admin),
        of_app("dead_tokens", texts.dead_tokens, "dead", "/dead-tokens", Access::Admin),
        of_app("webhooks", texts.webhooks, "webhooks", "/webhooks", Access::Admin),
        of_app("keys", texts.keys, "keys", "/keys", Access::Admin),
        of_app("audit", texts.audit, "audit", "/audit", Access::Admin),
    ];
    let is_operator = context.caller.is_operator();
    let of_server = |section, text, icon, path: &str| Entry {
        section,
        text,
        icon,
        path: path.to_owned(),
        is_open: is_operator,
    };
    let server_entries = [
        of_server("broker", texts.broker, "broker", "/console/broker"),
        of_server("sessions", texts.sessions, "sessions", "/console/broker/sessions"),
        of_server("queues", texts.queues, "queues", "/console/broker/queues"),
        of_server("networks", texts.networks, "networks", "/console/broker/networks"),
        of_server("retained", texts.retained, "retained", "/console/broker/retained"),
        of_server("topics", texts.topics, "topics", "/console/broker/topics"),
        of_server("apps", texts.apps, "apps", "/console/apps"),
        of_server("server_audit", texts.audit, "audit", "/console/audit"),
        of_server("people", texts.people, "people", "/console/people"),
    ];
    html! {
        header.sidebar {
            a.brand href="/console" { span.brand-mark aria-hidden="true" { (icon("bell")) } (texts.product) }
            details.menu open {
                summary { (texts.menu) }
                nav aria-label=(texts.main_navigation) {
                    @if context.app.is_some() {
                        (app_choice(context))
                        (entries(section, &app_entries))
                    }
                    @if is_operator {
                        h2.nav-title { (texts.server) }
                        (entries(section, &server_entries))
                    } @else if context.app.is_none() {
                        (entries(section, &[Entry { section: "apps", text: texts.apps, icon: "apps", path: "/console/apps".to_owned(), is_open: true }]))
                    }
                }
            }
        }
    }
}

fn entries(section: &str, entries: &[Entry]) -> Markup {
    html! {
        ul.nav {
            @for entry in entries.iter().filter(|entry| entry.is_open) {
                li {
                    a href=(entry.path) aria-current=[(entry.section == section).then_some("page")] {
                        (icon(entry.icon)) span { (entry.text) }
                    }
                }
            }
        }
    }
}

fn app_choice(context: &Context<'_>) -> Markup {
    let texts = context.texts;
    let shown = |app: &App| if app.name.is_empty() { app.id.clone() } else { app.name.clone() };
    let current = context.apps.iter().find(|app| Some(app.id.as_str()) == context.app);
    html! {
        details.app-choice {
            summary {
                span.app-label { (texts.app) }
                span.app-name { (current.map(shown).unwrap_or_default()) }
            }
            ul {
                @for app in context.apps {
                    li {
                        a href={ "/console/apps/" (app.id) } aria-current=[(Some(app.id.as_str()) == context.app).then_some("true")] {
                            (shown(app)) @if !app.name.is_empty() { " " small { (app.id) } }
                        }
                    }
                }
            }
        }
    }
}

fn top_bar(context: &Context<'_>) -> Markup {
    let texts = context.texts;
    let who = context.caller.key_id.trim_start_matches('@');
    html! {
        div.top-bar {
            (choices(context))
            details.account {
                summary { (icon("person")) span { (who) } }
                div.account-menu {
                    @if context.caller.key_id.starts_with('@') {
                        a href="/console/password" { (texts.change_password) }
                    }
                    form method="post" action="/console/logout" {
                        (csrf(context.csrf))
                        button.link type="submit" { (texts.log_out) }
                    }
                }
            }
        }
    }
}

fn choices(context: &Context<'_>) -> Markup {
    let (texts, look) = (context.texts, context.look);
    html! {
        form.choices method="post" action="/console/look" {
            (csrf(context.csrf))
            input type="hidden" name="next" value=(context.here);
            label.visually-hidden for="language" { (texts.language_name) }
            select #language name="language" data-submit {
                @for language in Language::ALL {
                    option value=(language.name()) selected[language == look.language] lang=(language.tag()) { (language.own_name()) }
                }
            }
            label.visually-hidden for="light" { (texts.light) }
            select #light name="light" data-submit {
                @for light in Light::ALL {
                    option value=(light.name()) selected[light == look.light] { (texts.light_name(light)) }
                }
            }
            button.small type="submit" data-hide { (texts.apply) }
        }
    }
}

/// The login page. `wrong` says why the last try failed.
pub(in crate::console) fn login(
    texts: &'static Texts,
    look: Look,
    token: &str,
    next: &str,
    wrong: Option<&str>,
) -> Markup {
    let other = look.language.other();
    let body = html! {
        div.login {
            div.login-head {
                span.brand-mark aria-hidden="true" { (icon("bell")) }
                h1 { (texts.product) }
                p { (texts.login_lead) }
            }
            @if let Some(wrong) = wrong { div.notice.bad role="alert" { (wrong) } }
            form.card.stack method="post" action="/console/login" {
                (csrf(token))
                input type="hidden" name="next" value=(next);
                div.field {
                    label for="name" { (texts.person_name) }
                    input #name name="name" autocomplete="username" autocapitalize="none" spellcheck="false" aria-describedby="name-hint";
                    p.hint #name-hint { (texts.login_name_hint) }
                }
                div.field {
                    label for="secret" { (texts.login_secret) }
                    input #secret name="secret" type="password" autocomplete="current-password" required autofocus;
                }
                button.primary type="submit" { (texts.log_in) }
            }
            p.hint { (texts.login_first) }
            p { a href={ "/console/login?language=" (other.name()) "&next=" (encode(next)) } lang=(other.tag()) { (other.own_name()) } }
        }
    };
    plain(texts, look, texts.log_in, body)
}
