//! The iPXE script of a node, rendered from a Jinja template of the directory `ipxe/`.
//!
//! Unknown variables are errors with file and line; the final newline of the template is kept.

use std::borrow::Cow;

use api::ids::{MacAddr, NodeName, Timestamp};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context, syntax::SyntaxConfig};

/// Name of the template of registered nodes in the directory `ipxe/`.
pub const TEMPLATE_FILE: &str = "boot.ipxe.j2";

/// The end of a script's URL, in which iPXE says how much memory the machine has, MiB.
pub const MEMORY_PARAMETER: &str = "?memory=${memsize}";

/// What a script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootScript<'a> {
    /// Name of the node, for the console.
    pub node: NodeName,
    /// The interface that it boots from.
    pub mac: MacAddr,
    /// Image version, for the console: `debian-node@2`.
    pub image: String,
    /// Address and port of the HTTP boot server, as the node reaches it: `10.1.0.1:9480`.
    pub server: String,
    /// URL of the kernel.
    pub kernel_url: String,
    /// URL of the stage-1 initramfs.
    pub stage1_url: String,
    /// URL of the node's own initrd.
    pub node_url: String,
    /// Kernel arguments of the node.
    pub kernel_args: Cow<'a, [String]>,
    /// The server's clock.
    pub time: Timestamp,
    /// Size of the root image, bytes: what a machine whose memory is too small needs.
    pub image_bytes: u64,
}

/// Why a script could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The template is not one.
    #[error("cannot read boot script template {name}")]
    Template {
        /// Its file name.
        name: String,
        /// Line and reason.
        #[source]
        source: minijinja::Error,
    },
    /// The template names what does not exist, or the like.
    #[error("cannot render boot script template {name}")]
    Render {
        /// Its file name.
        name: String,
        /// Line and reason.
        #[source]
        source: minijinja::Error,
    },
    /// A kernel argument would end the line of the script or be taken for a command.
    #[error(transparent)]
    KernelArgument(#[from] BadKernelArgument),
}

/// A kernel argument that iPXE cannot pass on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel argument {argument:?} {rule}")]
pub struct BadKernelArgument {
    /// The argument, as the node's record has it.
    pub argument: String,
    /// What is wrong with it.
    pub rule: &'static str,
}

/// Most bytes of all kernel arguments of a node, the blanks between them included. x86-64 and arm64
/// take 2,047 in all (`COMMAND_LINE_SIZE`) and drop the rest without a word; the boot script's own
/// arguments need some hundred.
pub const MAX_KERNEL_ARGUMENTS: usize = 1792;

/// Says whether iPXE can pass this on to a kernel as it is.
///
/// # Errors
/// Names the rule that it breaks.
pub fn check_kernel_argument(argument: &str) -> Result<(), BadKernelArgument> {
    let rule = if !blanks_are_quoted(argument) {
        Some(
            "has blanks that are not between double quotes, or a quote without its other: an argument \
             with blanks is written as name=\"one two\"",
        )
    } else if argument.contains("  ") {
        Some("has several blanks in a row, of which iPXE passes on one")
    } else {
        None
    };
    check_carried(argument)?;
    rule.map_or(Ok(()), |rule| Err(BadKernelArgument { argument: argument.to_owned(), rule }))
}

/// Says whether a boot script can carry this. An argument with blanks may stand in
/// several elements, as earlier releases asked for it: only what would break the script
/// is refused at a boot.
fn check_carried(argument: &str) -> Result<(), BadKernelArgument> {
    // Every boot asks this of every argument: nearly all have none of what needs a closer look.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'"' | b'%' | b'\''..=b'{' | b'}' | b'~');
    // All bytes, whatever the first of them is: without a branch it takes many of them at a time.
    if !argument.is_empty() && argument.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return Ok(());
    }
    let rule = if argument.is_empty() {
        "is empty"
    } else if !argument.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        "holds other characters than printable ASCII, which a boot script cannot carry"
    } else if argument.contains("${") {
        "holds \"${\", which iPXE would replace"
    } else if argument.split(' ').any(|word| matches!(word, "&&" | "||") || word.starts_with('#')) {
        "holds a word that iPXE takes for an operator or a comment: &&, || or #"
    } else {
        return Ok(());
    };
    Err(BadKernelArgument { argument: argument.to_owned(), rule })
}

/// The kernel takes a blank outside of double quotes for the end of an argument (lib/cmdline.c).
fn blanks_are_quoted(argument: &str) -> bool {
    let mut quoted = false;
    for byte in argument.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b' ' if !quoted => return false,
            _ => {}
        }
    }
    !quoted
}

/// What a machine is told that cannot boot for a cause that is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Name of the node, for the console.
    pub node: NodeName,
    /// The interface that it boots from.
    pub mac: MacAddr,
    /// Address and port of the HTTP boot server, as the node reaches it: `10.1.0.1:9480`.
    pub server: String,
    /// Image version that it would boot: `debian-node@2`.
    pub image: String,
    /// Why, in one line of printable ASCII:
    /// `has 256 MiB of memory; this image needs about 478 MiB`.
    pub cause: String,
}

impl Refused {
    /// A script that shows the cause on the console, and asks again every minute: the node may be
    /// given another image.
    #[must_use]
    pub fn script(&self) -> String {
        let Self { node, server, image, .. } = self;
        let mac = self.mac.hyphenated();
        let plain = |c: char| {
            if c == ' ' || (c.is_ascii_graphic() && !"$#&|".contains(c)) { c } else { '?' }
        };
        let cause: String = self.cause.chars().map(plain).collect();
        format!(
            "#!ipxe
# Answer of the Bedplate server to {node} ({mac}): it cannot boot.

:refused
echo
echo Bedplate: {node} cannot boot {image}: it {cause}
echo Bedplate: trying again in 60 seconds. Ctrl-C opens the iPXE shell.
imgfree
sleep 60 || goto shell
chain --replace http://{server}/boot/{mac}/script{MEMORY_PARAMETER} || goto refused

:shell
echo Bedplate: type exit to try again; if iPXE is wrong about the memory, this boots all the same:
echo chain --replace http://{server}/boot/{mac}/script
shell
goto refused
"
        )
    }
}

/// A parsed template.
#[derive(Debug)]
pub struct ScriptTemplate {
    name: String,
    environment: Environment<'static>,
}

impl ScriptTemplate {
    /// Parses a template. `name` is its file name, for messages.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        let failed = |source| ScriptError::Template { name: name.to_owned(), source };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_syntax(
            SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(failed)?,
        );
        environment.add_template_owned(name.to_owned(), text.to_owned()).map_err(failed)?;
        Ok(Self { name: name.to_owned(), environment })
    }

    /// Renders the script of one boot.
    ///
    /// # Errors
    /// A variable that does not exist, with its line, or a kernel argument that iPXE cannot carry.
    pub fn render(&self, script: &BootScript<'_>) -> Result<String, ScriptError> {
        for argument in script.kernel_args.iter() {
            check_carried(argument)?;
        }
        let failed = |source| ScriptError::Render { name: self.name.clone(), source };
        let variables = context! {
            node => script.node.as_str(),
            mac => script.mac.to_string(),
            mac_hyphenated => script.mac.hyphenated(),
            image => script.image.as_str(),
            server => script.server.as_str(),
            kernel_url => script.kernel_url.as_str(),
            stage1_url => script.stage1_url.as_str(),
            node_url => script.node_url.as_str(),
            kernel_args => script.kernel_args.join(" "),
            time => script.time.seconds(),
            image_mib => script.image_bytes.div_ceil(1 << 20),
        };
        let template = self.environment.get_template(&self.name).map_err(failed)?;
        template.render(variables).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
