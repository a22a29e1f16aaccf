//! How columns are decoded. Wrappers for the fields of a `#[derive(sqlx::FromRow)]` record; each is
//! stored as one of the four column types that both engines have.
//!
//! | wrapper | column | in Rust |
//! |---|---|---|
//! | [`Parsed`] | TEXT | whatever parses from it: identifiers, names, digests |
//! | [`Word`] | TEXT | enums without data, by their names in the API |
//! | [`Json`] | TEXT | whatever deserializes from it |
//! | [`Number`] | BIGINT | any integer that holds the value |
//! | [`Kept`] | that of what it wraps | it, or why it cannot be read |

use std::{any::type_name, error::Error, str::FromStr};

use serde::de::IntoDeserializer as _;
use sqlx::{Database, Decode, Type, TypeInfo as _, ValueRef as _};

use crate::DatabaseError;

type BoxError = Box<dyn Error + Send + Sync>;

/// A TEXT column that is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

/// A TEXT column with the name of an enum's variant, as serde has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<T>(pub T);

/// A TEXT column of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A BIGINT column of a smaller or unsigned integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<T>(pub T);

/// A column that may be damaged without taking the rest of its row with it: what it holds, or why
/// it cannot be read. The key of a row is never one: without it nobody knows what is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T>(pub Result<T, Unreadable>);

/// Why a column cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Unreadable {
    cause: String,
}

impl<T: Type<DB>, DB: Database> Type<DB> for Kept<T> {
    fn type_info() -> DB::TypeInfo {
        T::type_info()
    }

    // What has another type than it should is damaged, and takes no row with it: the
    // decoder says so.
    fn compatible(_: &DB::TypeInfo) -> bool {
        true
    }
}

impl<'r, T: Decode<'r, DB> + Type<DB>, DB: Database> Decode<'r, DB> for Kept<T> {
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        let found = value.type_info().into_owned();
        if value.is_null() || !T::compatible(&found) {
            let wanted = T::type_info();
            let cause = format!("{} where {} belongs", found.name(), wanted.name());
            return Ok(Self(Err(Unreadable { cause })));
        }
        Ok(Self(T::decode(value).map_err(|error| Unreadable { cause: error.to_string() })))
    }
}

/// A wrapper has the column type of what it is stored as.
macro_rules! stored_as {
    ($($wrapper:ident: $stored:ty),+) => {$(
        impl<T, DB: Database> Type<DB> for $wrapper<T>
        where
            $stored: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$stored as Type<DB>>::type_info()
            }

            fn compatible(other: &DB::TypeInfo) -> bool {
                <$stored as Type<DB>>::compatible(other)
            }
        }
    )+};
}

stored_as! { Parsed: String, Word: String, Json: String, Number: i64 }

impl<'r, T, DB: Database> Decode<'r, DB> for Parsed<T>
where
    T: FromStr<Err: Into<BoxError>>,
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        <&str as Decode<DB>>::decode(value)?.parse().map(Self).map_err(Into::into)
    }
}

impl<'r, T, DB: Database> Decode<'r, DB> for Word<T>
where
    T: serde::de::DeserializeOwned,
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        let word = <&str as Decode<DB>>::decode(value)?;
        let decoded: Result<T, serde::de::value::Error> = T::deserialize(word.into_deserializer());
        Ok(Self(decoded?))
    }
}

impl<'r, T, DB: Database> Decode<'r, DB> for Json<T>
where
    T: serde::de::DeserializeOwned,
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        Ok(Self(serde_json::from_str(<&str as Decode<DB>>::decode(value)?)?))
    }
}

impl<'r, T, DB: Database> Decode<'r, DB> for Number<T>
where
    T: TryFrom<i64>,
    i64: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxError> {
        let value = <i64 as Decode<DB>>::decode(value)?;
        let out_of_range =
            |_| format!("{value} is out of the range of {}", type_name::<T>()).into();
        T::try_from(value).map(Self).map_err(out_of_range)
    }
}

/// The JSON of a value, for a TEXT column.
///
/// # Errors
/// [`DatabaseError::Encode`] if the value has no JSON: a map whose keys are no strings.
pub fn json<T: serde::Serialize>(action: &'static str, value: &T) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(|source| DatabaseError::Encode { action, source })
}
