//! The shipped template, and templates and arguments with mistakes.

use expect_test::expect;

use super::*;

fn script() -> BootScript<'static> {
    BootScript {
        node: "n1".parse().unwrap(),
        mac: "52:54:00:12:34:56".parse().unwrap(),
        image: "debian-node@2".to_owned(),
        server: "10.1.0.1:9480".to_owned(),
        kernel_url: "http://10.1.0.1:9480/blobs/sha256/aa".to_owned(),
        stage1_url: "http://10.1.0.1:9480/blobs/sha256/bb".to_owned(),
        node_url: "http://10.1.0.1:9480/boot/52-54-00-12-34-56/node.img".to_owned(),
        kernel_args: vec!["console=ttyS0,115200".to_owned(), "quiet".to_owned()].into(),
        time: Timestamp(1_700_000_000_000_000),
        image_bytes: 268_000_000,
    }
}

const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ipxe/boot.ipxe.j2"));

#[test]
fn the_shipped_script() {
    let template = ScriptTemplate::parse(TEMPLATE_FILE, SHIPPED).unwrap();
    expect![[r#"
        #!ipxe
        # Boot script of n1 (52:54:00:12:34:56). Rendered by the Bedplate server from ipxe/boot.ipxe.j2.

        echo
        echo Bedplate: n1 boots debian-node@2 from 10.1.0.1:9480

        imgfree
        set step kernel
        kernel --name vmlinuz http://10.1.0.1:9480/blobs/sha256/aa initrd=stage1.img initrd=node.img BOOTIF=01-52-54-00-12-34-56 bedplate.time=1700000000 bedplate.image-mib=256 console=ttyS0,115200 quiet || goto failed
        set step stage-1 initramfs
        initrd --name stage1.img http://10.1.0.1:9480/blobs/sha256/bb || goto failed
        set step initrd of this node
        initrd --name node.img http://10.1.0.1:9480/boot/52-54-00-12-34-56/node.img || goto failed
        set step start of the kernel
        boot || goto failed

        :failed
        echo
        echo Bedplate: n1 cannot boot debian-node@2: ${step}: error ${errno}
        echo Bedplate: trying again in 10 seconds. The log of the server says more. Ctrl-C opens the iPXE shell.
        imgfree
        sleep 10 || goto shell
        chain --replace http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize} || goto failed

        :shell
        echo Bedplate: type exit to try again
        shell
        goto failed
    "#]].assert_eq(&template.render(&script()).unwrap());
    let plain =
        template.render(&BootScript { kernel_args: Vec::new().into(), ..script() }).unwrap();
    assert!(
        plain.contains(" bedplate.time=1700000000 bedplate.image-mib=256 || goto failed\n"),
        "{plain}"
    );
}

#[test]
fn a_template_with_a_diagnostic_names_its_line() {
    let chain = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!("\n  {cause}");
            source = cause.source();
        }
        text
    };
    let syntax = ScriptTemplate::parse("boot.ipxe.j2", "#!ipxe\n{% if %}\n").unwrap_err();
    let unknown = ScriptTemplate::parse("boot.ipxe.j2", "#!ipxe\necho {{ nodes }}\n").unwrap();
    let unknown = unknown.render(&script()).unwrap_err();
    expect![[r#"
        cannot read boot script template boot.ipxe.j2
          syntax error: unexpected end of block (in boot.ipxe.j2:2)
        cannot render boot script template boot.ipxe.j2
          undefined value: `nodes` is undefined (in boot.ipxe.j2:2)
    "#]]
    .assert_eq(&format!("{}\n{}\n", chain(&syntax), chain(&unknown)));
}

#[test]
fn arguments_that_ipxe_would_misread_are_refused() {
    let bad = [
        "",
        "a\nreboot",
        "a || b",
        "x=${net0/mac}",
        "ä",
        "#c",
        "a #c",
        "a b",
        "&&",
        "x=\"a || b\"",
        "x=\"a",
        "x=\"a  b\"",
        "x=\"a\" b",
    ];
    for bad in bad {
        let error = check_kernel_argument(bad).unwrap_err();
        assert!(error.to_string().starts_with(&format!("kernel argument {bad:?} ")), "{error}");
    }
    for good in ["quiet", "init=/bin/sh", "dyndbg=\"file a.c +p\"", "a||b", "x=a#b"] {
        assert_eq!(check_kernel_argument(good), Ok(()));
    }
    let template = ScriptTemplate::parse(TEMPLATE_FILE, SHIPPED).unwrap();
    // As nodes have them that were registered with an earlier release.
    let split = ["dyndbg=\"file", "a.c", "+p\""].map(str::to_owned).to_vec();
    let script_of_before =
        template.render(&BootScript { kernel_args: split.into(), ..script() }).unwrap();
    assert!(script_of_before.contains("dyndbg=\"file a.c +p\" ||"), "{script_of_before}");
    let injected = BootScript { kernel_args: vec!["x\nshell".to_owned()].into(), ..script() };
    assert!(matches!(template.render(&injected), Err(ScriptError::KernelArgument(_))));
}

#[test]
fn a_machine_that_cannot_boot_is_told_so_and_asks_again() {
    let mut refused = Refused {
        node: "n1".parse().unwrap(),
        mac: "52:54:00:12:34:56".parse().unwrap(),
        server: "10.1.0.1:9480".to_owned(),
        image: "debian-node@2".to_owned(),
        cause: "has 256 MiB of memory; this image needs about 478 MiB".to_owned(),
    };
    expect![[r#"
        #!ipxe
        # Answer of the Bedplate server to n1 (52-54-00-12-34-56): it cannot boot.

        :refused
        echo
        echo Bedplate: n1 cannot boot debian-node@2: it has 256 MiB of memory; this image needs about 478 MiB
        echo Bedplate: trying again in 60 seconds. Ctrl-C opens the iPXE shell.
        imgfree
        sleep 60 || goto shell
        chain --replace http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize} || goto refused

        :shell
        echo Bedplate: type exit to try again; if iPXE is wrong about the memory, this boots all the same:
        echo chain --replace http://10.1.0.1:9480/boot/52-54-00-12-34-56/script
        shell
        goto refused
    "#]]
    .assert_eq(&refused.script());
    refused.cause = "a\nshell || ${net0/mac} #b".to_owned();
    let script = refused.script();
    assert!(script.contains(": it a?shell ?? ?{net0/mac} ?b\n"), "{script}");
}
