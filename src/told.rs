//! Sentences that the relay says in English and its pages in their own language. Each has a name, which stays, and the values
//! in it; the pages' texts are under `told` in `web/src/i18n`, one for each name.

use serde::Serialize;
use serde_json::{Map, Value};

/// A sentence with its name and its values.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Told {
    code: &'static str,
    values: Map<String, Value>,
    text: String,
}

impl Told {
    /// A sentence. `sentences!` makes them.
    pub fn new(code: &'static str, values: Map<String, Value>, text: String) -> Told {
        Told { code, values, text }
    }

    /// Its name.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What stands in it, by name. A value may be a sentence itself.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The English of it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Declares an enum of sentences, each on a line of its own: the variant, its name, its values and its English.
macro_rules! sentences {
    (
        $(#[$about:meta])*
        $visible:vis enum $sentences:ident {
            $($variant:ident $code:literal $({ $($value:ident: $kind:ty),* })? => $text:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
        $visible enum $sentences {
            $(
                #[doc = $text]
                $variant $({ $(#[doc = concat!("`", stringify!($value), "`")] $value: $kind,)* })?,
            )*
        }

        impl $sentences {
            /// Its name.
            $visible fn code(&self) -> &'static str {
                match self {
                    $($sentences::$variant { .. } => $code,)*
                }
            }

            fn values(&self) -> serde_json::Map<String, serde_json::Value> {
                match self {
                    $($sentences::$variant $({ $($value),* })? => serde_json::Map::from_iter([
                        $($((stringify!($value).to_owned(), serde_json::json!($value)),)*)?
                    ]),)*
                }
            }
        }

        impl std::fmt::Display for $sentences {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $($sentences::$variant $({ $($value),* })? => write!(f, $text),)*
                }
            }
        }

        impl From<&$sentences> for crate::told::Told {
            fn from(sentence: &$sentences) -> crate::told::Told {
                crate::told::Told::new(sentence.code(), sentence.values(), sentence.to_string())
            }
        }

        impl From<$sentences> for crate::told::Told {
            fn from(sentence: $sentences) -> crate::told::Told {
                crate::told::Told::from(&sentence)
            }
        }

        impl serde::Serialize for $sentences {
            fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
            where
                S: serde::Serializer,
            {
                crate::told::Told::from(self).serialize(serializer)
            }
        }
    };
}
pub(crate) use sentences;
