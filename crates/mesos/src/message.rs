//! The shape shared by all messages. One macro, so that each field says once whether it is required, optional (left
//! out when empty) or always written, and a second encoding has one place to hook into.

/// Whether an optional field is left out when writing.
pub trait Absent {
    /// True if there is nothing to write.
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for std::collections::BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Declares a message: `required` fields must be present, `always` fields default on reading and are always written,
/// `optional` fields default on reading and are written when not empty.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(required { $($(#[$rm:meta])* $rf:ident : $rt:ty),* $(,)? })?
            $(always { $($(#[$am:meta])* $af:ident : $at:ty),* $(,)? })?
            $(optional { $($(#[$om:meta])* $of:ident : $ot:ty),* $(,)? })?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        pub struct $name {
            $($($(#[$rm])* pub $rf: $rt,)*)?
            $($($(#[$am])* #[serde(default)] pub $af: $at,)*)?
            $($($(#[$om])* #[serde(default, skip_serializing_if = "crate::message::Absent::is_absent")] pub $of: $ot,)*)?
        }
    };
}

/// Declares an enum that is written as its proto name; `other` is the variant for names this version does not know.
macro_rules! names {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$vm:meta])* $variant:ident = $text:literal,)* $(; other $other:ident = $otext:literal,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $($(#[$vm])* #[serde(rename = $text)] $variant,)*
            $(
                /// A name this version does not know.
                #[serde(other, rename = $otext)]
                $other,
            )?
        }

        impl $name {
            /// The proto name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                    $($name::$other => $otext,)?
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
