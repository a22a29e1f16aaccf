//! REST: what can be permitted. Every route names one [`Action`]; `access::authorize`
//! says who may do it.

use serde::{Deserialize, Serialize};

/// What a principal is. A role permits actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything.
    Admin,
    /// Reads the cluster, and has workflows and tokens of its own.
    User,
    /// A role of a newer server. It permits nothing here.
    #[serde(other)]
    Unknown,
}

impl Role {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Unknown => "unknown",
        }
    }
}

/// On which things an action is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Those that belong to the principal.
    Own,
    /// All of them.
    All,
    /// An extent of a newer server.
    #[serde(other)]
    Unknown,
}

impl Extent {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
            Self::Unknown => "unknown",
        }
    }
}

/// An action that a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Permitted {
    /// The action that is permitted.
    pub action: Action,
    /// On which things.
    pub on: Extent,
}

/// Declares [`Action`]: variant, its word in JSON, and what follows "cannot" in a refusal.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $phrase:literal;)*) => {
        /// One kind of act on the cluster. Each route of the REST API names one: `x-action` in the
        /// OpenAPI document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $word)]
            // utoipa does not see through the literal of a macro in serde's attribute.
            #[cfg_attr(feature = "openapi", schema(rename = $word))] $name,)*
            /// What no route of this release names, or what only a newer server knows.
            #[serde(rename = "unlisted", other)]
            Unlisted,
        }

        impl Action {
            /// Every action that a route can name, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word in JSON: `node-list`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Unlisted => "unlisted",
                }
            }

            /// What is done, for people: "list nodes".
            #[must_use]
            pub fn phrase(self) -> &'static str {
                match self {
                    $(Self::$name => $phrase,)*
                    Self::Unlisted => "do what the API does not have",
                }
            }
        }
    };
}

actions! {
    /// Read who the caller is and what it may do.
    WhoAmI = "who-am-i", "tell who asks";
    /// Read the server's version.
    VersionRead = "version-read", "read the server's version";
    /// Read the metrics of the cluster.
    MetricsRead = "metrics-read", "read the metrics";
    /// List what wants an admin's attention: tokens without an end, certificates that end.
    AlarmList = "alarm-list", "list alarms";
    /// List the certificates of the server: its authority's and those of its ports.
    CertificateList = "certificate-list", "list certificates";
    /// List tokens, without their secrets.
    TokenList = "token-list", "list tokens";
    /// Make a token.
    TokenCreate = "token-create", "create the token";
    /// Revoke a token.
    TokenRevoke = "token-revoke", "revoke the token";
    /// Log in from a browser: begin a session.
    SessionCreate = "session-create", "begin a session";
    /// Log out: end a session, or all of a user.
    SessionEnd = "session-end", "end sessions";
    /// Get a ticket for one request.
    TicketCreate = "ticket-create", "create a ticket";
    /// Read the audit log.
    AuditRead = "audit-read", "read the audit log";
    /// List the records of users.
    UserList = "user-list", "list users";
    /// Read the record of a user.
    UserRead = "user-read", "show the user";
    /// Add a user.
    UserAdd = "user-add", "add the user";
    /// Change the record of a user.
    UserEdit = "user-edit", "change the user";
    /// Remove a user.
    UserDelete = "user-delete", "remove the user";
    /// List nodes with their status, and watch them.
    NodeList = "node-list", "list nodes";
    /// Read a node: its specification, its status, its history, its hardware.
    NodeRead = "node-read", "show the node";
    /// Ask a question about the hardware of all nodes.
    InventoryQuery = "inventory-query", "ask about the hardware of nodes";
    /// Declare nodes.
    NodeAdd = "node-add", "add nodes";
    /// Change the specification of nodes.
    NodeEdit = "node-edit", "change the node";
    /// Delete a node with its history and its certificates.
    NodeDelete = "node-delete", "delete the node";
    /// Reboot a node.
    NodeReboot = "node-reboot", "reboot the node";
    /// Replace the agent of a node by the server's.
    NodeUpgrade = "node-upgrade", "upgrade the agent of the node";
    /// Allow a node to get a boot token again.
    NodeArm = "node-arm", "arm the node";
    /// Say which enrolment of a node is the node: the certificates of its others are dead.
    NodeTrust = "node-trust", "trust the enrolment of the node";
    /// Revoke certificates of a node.
    NodeRevoke = "node-revoke", "revoke certificates of the node";
    /// Keep work away from a node, or let it come again.
    NodeDrain = "node-drain", "drain or undrain the node";
    /// List profiles.
    ProfileList = "profile-list", "list profiles";
    /// Read a profile.
    ProfileRead = "profile-read", "show the profile";
    /// Make or change a profile.
    ProfileEdit = "profile-edit", "change the profile";
    /// Delete a profile.
    ProfileDelete = "profile-delete", "delete the profile";
    /// Make nodes and profiles be as a document says.
    ClusterApply = "cluster-apply", "apply the document";
    /// Read all nodes and profiles as a document.
    ClusterExport = "cluster-export", "export the cluster";
    /// List images.
    ImageList = "image-list", "list images";
    /// Read an image.
    ImageRead = "image-read", "show the image";
    /// Import an image.
    ImageImport = "image-import", "import the image";
    /// Delete an image, or a version of it.
    ImageDelete = "image-delete", "delete the image";
    /// List long operations.
    OperationList = "operation-list", "list operations";
    /// Read a long operation, or watch it.
    OperationRead = "operation-read", "show the operation";
    /// End a long operation.
    OperationCancel = "operation-cancel", "cancel the operation";
    /// List overlays.
    OverlayList = "overlay-list", "list overlays";
    /// Read which files an overlay has.
    OverlayRead = "overlay-read", "show the overlay";
    /// Read an overlay as a node gets it; it may hold the node's secrets.
    OverlayRender = "overlay-render", "render the overlay";
    /// Read a file of an overlay as it was written; it may hold the site's secrets.
    OverlayFileRead = "overlay-file-read", "read the file of the overlay";
    /// Write or remove a file of an overlay.
    OverlayEdit = "overlay-edit", "change the overlay";
    /// Delete an overlay of the site.
    OverlayDelete = "overlay-delete", "delete the overlay";
    /// List workflows.
    WorkflowList = "workflow-list", "list workflows";
    /// Read a workflow: its stages, its attempts, its events, what it waits for and what it uses.
    WorkflowRead = "workflow-read", "show the workflow";
    /// Read the document of a workflow as it was handed in; it may hold secrets of its user.
    WorkflowDocument = "workflow-document", "show the document of the workflow";
    /// Read what the tasks of a workflow wrote.
    WorkflowLog = "workflow-log", "show the log of the workflow";
    /// Fetch a file that was taken out of a volume.
    WorkflowFile = "workflow-file", "fetch the file of the workflow";
    /// Check or normalise a workflow document; nothing is started.
    WorkflowCheck = "workflow-check", "check the workflow document";
    /// Start a workflow. It belongs to the user that its jobs run as.
    WorkflowStart = "workflow-start", "start the workflow";
    /// Stop a workflow.
    WorkflowStop = "workflow-stop", "stop the workflow";
    /// Delete a workflow that is over.
    WorkflowDelete = "workflow-delete", "delete the workflow";
    /// Pause a workflow, or let it go on.
    WorkflowPause = "workflow-pause", "pause or resume the workflow";
    /// Run a program in a running job, attach to it, forward a port of it, copy
    /// files from or to it.
    WorkflowEnter = "workflow-enter", "enter the job";
}

impl Action {
    /// The action of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.as_str() == word)
    }

    /// May a token be limited to actions of which this is one? Who changes users can make any of
    /// them an admin, so a token that may do that is limited to nothing.
    #[must_use]
    pub fn fits_a_scope(self) -> bool {
        !matches!(self, Self::UserAdd | Self::UserEdit | Self::UserDelete | Self::Unlisted)
    }

    /// Does it change nothing, and tell no secret? A ticket is for reading alone. What may
    /// hold secrets (overlays as nodes get them, files of overlays, documents of workflows) is
    /// not among these.
    #[must_use]
    pub fn only_reads(self) -> bool {
        matches!(
            self,
            Self::WhoAmI
                | Self::VersionRead
                | Self::MetricsRead
                | Self::AlarmList
                | Self::CertificateList
                | Self::TokenList
                | Self::TicketCreate
                | Self::AuditRead
                | Self::UserList
                | Self::UserRead
                | Self::NodeList
                | Self::NodeRead
                | Self::InventoryQuery
                | Self::ProfileList
                | Self::ProfileRead
                | Self::ClusterExport
                | Self::ImageList
                | Self::ImageRead
                | Self::OperationList
                | Self::OperationRead
                | Self::OverlayList
                | Self::OverlayRead
                | Self::WorkflowList
                | Self::WorkflowRead
                | Self::WorkflowLog
                | Self::WorkflowFile
                | Self::WorkflowCheck
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_those_of_json_and_differ() {
        let words: BTreeSet<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(words.len(), Action::ALL.len());
        for action in Action::ALL {
            let json = serde_json::to_string(action).unwrap();
            assert_eq!(json, format!("\"{}\"", action.as_str()));
            assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), *action);
        }
        for role in [Role::Admin, Role::User] {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{}\"", role.as_str()));
        }
        for extent in [Extent::Own, Extent::All] {
            assert_eq!(serde_json::to_string(&extent).unwrap(), format!("\"{}\"", extent.as_str()));
        }
    }

    #[test]
    fn what_only_reads_fits_a_scope() {
        for action in Action::ALL {
            assert_eq!(Action::from_word(action.as_str()), Some(*action));
            assert!(action.fits_a_scope() || !action.only_reads(), "{action:?}");
        }
        let secrets = [Action::OverlayRender, Action::OverlayFileRead, Action::WorkflowDocument];
        assert!(secrets.iter().all(|action| !action.only_reads()));
        assert_eq!(Action::from_word("unlisted"), None);
    }

    #[test]
    fn words_of_a_newer_server_are_read() {
        let told: Permitted =
            serde_json::from_str(r#"{"action": "gang-launch", "on": "group"}"#).unwrap();
        assert_eq!(told, Permitted { action: Action::Unlisted, on: Extent::Unknown });
        assert_eq!(serde_json::from_str::<Role>("\"auditor\"").unwrap(), Role::Unknown);
    }
}
