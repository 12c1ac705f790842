//! What Patroni gives its callbacks.

/// What Patroni calls, as its first argument says.
const ACTIONS: [&str; 5] = [
    "on_start",
    "on_stop",
    "on_restart",
    "on_reload",
    "on_role_change",
];

/// Whether these are the three words: an action, a role, a scope.
pub(crate) fn is_patroni_call(words: &str) -> bool {
    let words: Vec<&str> = words.split_whitespace().take(4).collect();
    matches!(words[..], [action, _, _] if ACTIONS.contains(&action))
}
