//! Fields of forms: label, control, hint, and what is wrong with it.

use maud::{Markup, html};

use crate::console::door::Refusal;
use crate::console::form::Fields;

/// A form as it was sent, and why it was refused.
#[derive(Default)]
pub(in crate::console) struct Filled {
    pub fields: Fields,
    pub refusal: Option<Refusal>,
}

impl Filled {
    /// What is wrong at this JSON pointer or below it.
    fn wrong(&self, pointer: &str) -> Option<&str> {
        let errors = &self.refusal.as_ref()?.errors;
        let is_at =
            |at: &str| at == pointer || at.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/'));
        errors.iter().find(|(at, _)| !pointer.is_empty() && is_at(at)).map(|(_, message)| message.as_str())
    }
}

/// What kind of control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Control<'a> {
    Text,
    Number,
    Password,
    /// So many lines.
    Area(u8),
    /// Values and their texts.
    Choice(&'a [(&'a str, &'a str)]),
    Check,
    /// A day and a time on some clock.
    LocalTime,
}

/// One field.
#[derive(Clone, Copy)]
pub(in crate::console) struct Field<'a> {
    pub name: &'a str,
    pub label: &'a str,
    pub hint: &'a str,
    pub control: Control<'a>,
    pub is_required: bool,
    /// Where its error stands.
    pub pointer: &'a str,
    pub placeholder: &'a str,
}

impl<'a> Field<'a> {
    /// A line of text.
    pub fn text(name: &'a str, label: &'a str) -> Self {
        Self {
            name,
            label,
            hint: "",
            control: Control::Text,
            is_required: false,
            pointer: "",
            placeholder: "",
        }
    }

    pub fn control(self, control: Control<'a>) -> Self {
        Self { control, ..self }
    }

    pub fn hint(self, hint: &'a str) -> Self {
        Self { hint, ..self }
    }

    pub fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub fn at(self, pointer: &'a str) -> Self {
        Self { pointer, ..self }
    }

    pub fn placeholder(self, placeholder: &'a str) -> Self {
        Self { placeholder, ..self }
    }
}

/// Label, control, hint and error.
pub(in crate::console) fn field(filled: &Filled, field: &Field<'_>) -> Markup {
    let Field { name, label, hint, control, is_required, pointer, placeholder } = *field;
    let (id, hint_id, wrong_id) = (format!("f-{name}"), format!("f-{name}-hint"), format!("f-{name}-wrong"));
    let wrong = filled.wrong(pointer);
    let described: Vec<&str> = [(!hint.is_empty(), &hint_id), (wrong.is_some(), &wrong_id)]
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, id)| id.as_str())
        .collect();
    let described = (!described.is_empty()).then(|| described.join(" "));
    let invalid = wrong.map(|_| "true");
    let value = filled.fields.text(name);
    let placeholder = (!placeholder.is_empty()).then_some(placeholder);
    html! {
        @if control == Control::Check {
            div.field.check {
                input #(id) type="checkbox" name=(name) value="true" checked[filled.fields.is(name, "true")] aria-describedby=[described];
                label for=(id) { (label) }
                @if !hint.is_empty() { p.hint #(hint_id) { (hint) } }
            }
        } @else {
            div.field {
                label for=(id) { (label) @if is_required { span.required aria-hidden="true" { " *" } } }
                @match control {
                    Control::Area(lines) => {
                        textarea #(id) name=(name) rows=(lines) required[is_required] spellcheck="false" placeholder=[placeholder] aria-describedby=[described] aria-invalid=[invalid] { "\n" (value) }
                    }
                    Control::Choice(options) => {
                        select #(id) name=(name) aria-describedby=[described] aria-invalid=[invalid] {
                            @for (option, text) in options { option value=(option) selected[*option == value] { (text) } }
                        }
                    }
                    Control::Password => {
                        input #(id) type="password" name=(name) required[is_required] autocomplete="new-password" aria-describedby=[described] aria-invalid=[invalid];
                    }
                    Control::Number => {
                        input #(id) type="number" min="0" name=(name) value=(value) required[is_required] placeholder=[placeholder] aria-describedby=[described] aria-invalid=[invalid];
                    }
                    Control::LocalTime => {
                        input #(id) type="datetime-local" name=(name) value=(value) required[is_required] aria-describedby=[described] aria-invalid=[invalid];
                    }
                    Control::Text | Control::Check => {
                        input #(id) type="text" name=(name) value=(value) required[is_required] spellcheck="false" autocomplete="off" placeholder=[placeholder] aria-describedby=[described] aria-invalid=[invalid];
                    }
                }
                @if !hint.is_empty() { p.hint #(hint_id) { (hint) } }
                @if let Some(wrong) = wrong { p.wrong #(wrong_id) { (wrong) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_shows_what_was_sent_and_what_is_wrong_with_it_as_text() {
        let evil = "\"><script>x</script>";
        let filled = Filled {
            fields: Fields::of(&[("title", evil)]),
            refusal: Some(Refusal {
                errors: vec![("/notification/title".to_owned(), evil.to_owned())],
                ..Refusal::new(422, "")
            }),
        };
        for control in [Control::Text, Control::Area(3), Control::Number, Control::Choice(&[(evil, evil)])] {
            let made =
                field(&filled, &Field::text("title", evil).hint(evil).at("/notification").control(control))
                    .into_string();
            assert!(!made.contains("<script"), "{made}");
            assert!(made.contains("aria-invalid=\"true\"") && made.contains("f-title-wrong"), "{made}");
        }
        let password = field(&filled, &Field::text("title", "x").control(Control::Password)).into_string();
        assert!(!password.contains("script"), "a password is never written back: {password}");
    }
}
