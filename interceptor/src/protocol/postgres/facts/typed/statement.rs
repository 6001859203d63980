//! How a utility statement is written down: its words, its relations, what is below it, what it asks.

/// `Kind "WORDS" [relation: Action …] { walked ; skipped } |statement, walk| what else it asks`.
///
/// The three lists together name every field. A skipped field may still be handled by the last part.
macro_rules! statements {
    ($($kind:ident $words:literal [$($relation:ident : $($action:ident)*),*]
        { $($seen:ident)* ; $($rest:ident)* } $more:expr;)*) => { $(
        impl<'t> Visit<'t> for $kind {
            fn visit(&'t self, walk: &mut Walk<'t>) {
                let Self { $($relation,)* $($seen,)* $($rest: _,)* } = self;
                walk.saw(stringify!($kind));
                walk.begin($words);
                $(walk.named($relation.as_ref(), &[$(Action::$action),*]);)*
                $($seen.visit(walk);)*
                let more: fn(&'t Self, &mut Walk<'t>) = $more;
                more(self, walk);
            }
        }
    )* };
}
pub(super) use statements;
