//! The generated parts of the Helm chart, from what is applied without Helm: the same objects, with the
//! namespace of the Helm release in place of ours.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::monitoring;
use super::operator::{Form, operator};
use crate::api::labels::NAMESPACE;
use crate::api::{access, admission, webhook};

/// What an uninstall leaves: with a definition all of its objects would go, at once.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// The templates that are made from code: file names and texts.
#[must_use]
pub fn templates(account: &str, definitions: &str) -> Vec<(&'static str, String)> {
    vec![
        ("crds", literal(definitions)),
        ("access", templated(&(account.to_owned() + "---\n" + &access::roles()))),
        ("admission", hold()),
        ("operator", operator(Form::Template)),
        ("monitoring", monitoring::template()),
    ]
}

/// The definition as the chart has it.
#[must_use]
pub fn kept(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert(KEEP.0.to_owned(), KEEP.1.to_owned());
    definition
}

/// What holds by the API server's own means, or by the webhook, or nothing where neither may be installed.
fn hold() -> String {
    let before = webhook::before_policies();
    // how to apply it by hand is of no use in the chart
    let before = before
        .find("apiVersion:")
        .and_then(|start| before.get(start..))
        .unwrap_or(&before);
    format!(
        "{{{{- $hold := include \"tollgate.hold\" . }}}}\n{{{{- if eq $hold \"policy\" }}}}\n{}\
         {{{{- else if eq $hold \"webhook\" }}}}\n{}{{{{- end }}}}\n",
        templated(&admission::policies()),
        templated(before)
    )
}

/// A manifest as a template.
fn templated(text: &str) -> String {
    literal(text).replace(NAMESPACE, "{{ .Release.Namespace }}")
}

/// What the template engine prints as it is.
fn literal(text: &str) -> String {
    text.replace("{{", r#"{{ "{{" }}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_of_another_language_are_printed_as_they_are() {
        for (text, template) in [
            (r#"labels: {"a": {"b": 1}}"#, r#"labels: {"a": {"b": 1}}"#),
            ("a: '{{ x }}'", r#"a: '{{ "{{" }} x }}'"#),
        ] {
            assert_eq!(literal(text), template);
        }
        assert_eq!(
            templated("system:serviceaccount:tollgate-system:tollgate"),
            "system:serviceaccount:{{ .Release.Namespace }}:tollgate"
        );
    }

    #[test]
    fn the_hold_is_one_of_two_and_names_no_namespace() {
        let text = hold();
        let (policy, webhook) = text
            .split_once("{{- else if eq $hold \"webhook\" }}")
            .expect("two branches");
        assert!(policy.contains("kind: MutatingAdmissionPolicy\n") && !policy.contains("Webhook"));
        assert!(webhook.contains("kind: MutatingWebhookConfiguration\n") && !webhook.contains("kubectl"));
        assert!(!text.contains(NAMESPACE));
    }
}
