//! Scripts to bytes, for the seeds: the inverse of what `derive(Arbitrary)` reads. A test holds the two together.

/// Declares types of scripts, with both directions. Variants are unit-like, or have named fields.
macro_rules! scripts {
    () => {};
    ($(#[$meta:meta])* enum $name:ident {
        $($(#[$doc:meta])* $variant:ident $({ $($field:ident: $ty:ty),* $(,)? })?),* $(,)?
    } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, arbitrary::Arbitrary)]
        pub(crate) enum $name { $($(#[$doc])* $variant $({ $($field: $ty),* })?),* }

        #[cfg(test)]
        impl $crate::wire::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let variants = [$(stringify!($variant)),*];
                let index = |name| variants.iter().position(|variant| *variant == name).unwrap_or(0);
                match self {$(
                    $name::$variant { $($($field),*)? } => {
                        $crate::wire::encode_variant(index(stringify!($variant)), variants.len(), out);
                        $($($crate::wire::Encode::encode($field, out);)*)?
                    }
                )*}
            }
        }
        $crate::wire::scripts!($($rest)*);
    };
    ($(#[$meta:meta])* struct $name:ident { $($(#[$doc:meta])* $field:ident: $ty:ty),* $(,)? } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, arbitrary::Arbitrary)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $ty),* }

        #[cfg(test)]
        impl $crate::wire::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::wire::Encode::encode(&self.$field, out);)*
            }
        }
        $crate::wire::scripts!($($rest)*);
    };
}
pub(crate) use scripts;

#[cfg(test)]
pub(crate) use encode::{Encode, encode_variant};

// Only the seeds are encoded, by the tests; the targets decode.
#[cfg(test)]
mod encode {
    /// The bytes from which `arbitrary` makes this value.
    pub(crate) trait Encode {
        /// Appends them.
        fn encode(&self, out: &mut Vec<u8>);
    }

    macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Encode for $ty {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
    integers!(u8, u16, u32, u64, i8, i16);

    impl Encode for bool {
        fn encode(&self, out: &mut Vec<u8>) {
            out.push(u8::from(*self));
        }
    }

    impl<T: Encode> Encode for Vec<T> {
        fn encode(&self, out: &mut Vec<u8>) {
            for item in self {
                true.encode(out);
                item.encode(out);
            }
            false.encode(out);
        }
    }

    /// The number from which `arbitrary` picks variant `index` of `count`.
    pub(crate) fn encode_variant(index: usize, count: usize, out: &mut Vec<u8>) {
        let (index, count) = (index as u64, count as u64);
        (((index << 32).div_ceil(count)) as u32).encode(out);
    }
}
