//! What an import says: what an admin should know of it, why records are left out, and why it ended.

use super::proxy::BadProxy;
use crate::told::sentences;
use serde::{Serialize, Serializer};
use std::fmt;

/// A number of keys.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Keys(pub u64);

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "key" } else { "keys" })
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

sentences! {
    /// What an admin should know of an import.
    pub enum Note {
        Keys "keys" { count: Keys, change: Change } => "{count}: {change}",
        Unproven "unproven" => "Nothing in this source proves the encryption key: the API keys work only if it is the right one. A \
            sampleApiKey would prove it",
        SecretKept "secret_kept" { field: String, account: String } =>
            "{field} of account {account:?} is kept as it stands: it is hex that does not open",
        SecretLost "secret_lost" { field: String, account: String } =>
            "{field} of account {account:?} cannot be decrypted and is left empty",
        ModelList "model_list" { account: String } =>
            "Account {account:?} was asked only for the models of a list; here it is asked for every model, under the names of \
            that list",
        ProxyUnusable "proxy_unusable" { account: String, fault: BadProxy } =>
            "Account {account:?} is switched off: its proxy cannot be used: {fault}",
        QueryCut "query_cut" { account: String } => "The address of account {account:?} had a query, which is cut off",
        NoNumber "no_number" { field: String, account: String } =>
            "{field} of account {account:?} is no number; here it is without it",
    }
}

sentences! {
    /// What is not quite the same here for some keys.
    pub enum Change {
        Unreadable "limit_unreadable" => "a limit of theirs is no number; here they are without it",
        NoDate "end_unreadable" => "the end of their life is no date that can be read; they are here, but switched off",
        AnyClient "any_client" => "only certain clients could use them; here every client can that has the key",
        NoClaude "no_claude" => "they had no right to Claude; they are here, but switched off",
        NoGroup "no_group" => "they were bound to a group of accounts; here all shared accounts serve them",
        AllModels "week_of_all_models" => "their weekly limit was for some models; here it is for all, from Monday on",
        WholeDays "whole_days" => "their life from the first use was counted in hours; it is rounded up to days",
        Refused "index_refused" => "its index of keys (apikey:hash_map) did not have them, so the original refused them; they are \
            here, but switched off",
        Found "index_other" => "its index of keys (apikey:hash_map) found them by another text than that of their record",
        Several "index_several" => "its index of keys (apikey:hash_map) found them by several texts, of which one works here",
        Deleted "found_by_use" => "they had been deleted and were found by what they used; they are listed as deleted",
    }
}

sentences! {
    /// Why a record is left out.
    #[derive(Copy)]
    pub enum Reason {
        NoKey "no_key" => "it is empty or has no identifier",
        NoDate "no_date" => "its date cannot be read",
        NoCounts "no_counts" => "its counts cannot be true",
        NoAdmin "no_admin" => "it has no name or no password hash",
        Hashless "hashless" => "it has no hash, so nobody can use it; what it used is kept under a deleted key",
        HashCutOff "hash_cut_off" =>
            "the export is sanitised: its hash was cut off; what it used is kept under a deleted key",
        TokensCutOff "tokens_cut_off" =>
            "the export is sanitised: its tokens are not in it; use a full export, or read Redis",
        Leftover "leftover" => "it is a leftover without a name or a beginning",
        NoAddress "no_address" => "its address is no http or https URL; add it anew with its key",
        Here "here" => "it is here already and stays as it is",
        HashTaken "hash_taken" => "another key here has the same hash; what it used is kept under a deleted key",
        AdminHere "admin_here" => "there is an admin of this name, whose password stays as it is",
        Index "index" => "an index, made anew",
        Session "session" => "a session: never taken over",
        Moment "moment" => "a state of the moment",
        UnreadAccount "unread_account" => "an account under a name that the original does not read",
        OtherVendor "other_vendor" => "an account of another vendor or of a kind that is not known here",
        OtherFigures "other_figures" => "figures of a kind that is not known or worked out anew here",
        Unknown "unknown" => "not known to this program",
        NoText "no_text" => "its name is no UTF-8",
        Gone "gone" => "it went while it was read",
        OtherType "other_type" => "it is of another type than it should be",
    }
}

sentences! {
    /// Why an import did not begin, or ended and has changed nothing.
    pub enum Failure {
        Cancelled "cancelled" => "It was cancelled",
        Running "migration_running" => "A migration is already running",
        WrongKey "wrong_key" { closed: u64, all: u64 } =>
            "The encryption key is not the one of this source: {closed} of {all} secrets cannot be decrypted",
        WrongSample "wrong_sample" =>
            "The sample API key is none of this source, or the encryption key is not the one of this source",
        ManyAdmins "many_admins" { max: usize } => "The source has more than {max} admins",
        ManyAccounts "many_accounts" { max: usize } => "The source has more than {max} accounts",
        ManyOrigins "many_origins" { max: usize } => "Keys of {max} installations are here already, which is the most",
        NoExport "no_export" { problem: String } => "export is not an export of the original: {problem}",
        OtherVersion "export_version" => "export must be of version 1.0 or 2.0 of the original's format",
        NoRedisUrl "redis_url" => "url must be redis:// or rediss:// with a host, or the roots are no PEM",
        RedisLogin "redis_login" => "Redis cannot be read: it refused the user or the password",
        Redis "redis" { problem: String } => "Redis cannot be read: {problem}",
        TakenBack "taken_back" { problem: String } => "The import was taken back: {problem}",
        Panicked "panicked" => "It failed by a fault of the program",
    }
}
