//! What `build.rs` leaves out of the console's files.

#[path = "../squeeze.rs"]
mod squeeze;

use squeeze::{bundle, script, style};

#[test]
fn scripts_lose_what_separates_nothing() {
    let text = "// Why.\nconst a = { b: 1, c: [ 2 ] }; /* x */ let d = a + +b;\n\nif (a) {\n  go( a - -1 );\n}\nreturn  /a b/ .test(x) / 2;\n";
    let wanted = "const a={b:1,c:[2]};let d=a+ +b;if(a){go(a- -1);}\nreturn/a b/.test(x)/2;\n";
    assert_eq!(script(text), wanted);
}

#[test]
fn what_is_quoted_stays() {
    for text in [
        "\"a  //  b\"",
        "'it\\'s  /* so */'",
        "`a  ${b+`c  ${d}  e`}  // f`",
        "x=>x.match(/[/]  \\/  */g)",
        "`${{a:1}.a}  `",
    ] {
        assert_eq!(script(text).trim_end(), text);
    }
}

#[test]
fn a_line_that_ends_a_statement_stays_one() {
    assert_eq!(script("let a = b\n(c)\n"), "let a=b\n(c)\n");
    assert_eq!(script("const f = () => {\n  g()\n}\nh()\n"), "const f=()=>{g()}\nh()\n");
}

#[test]
fn styles_lose_what_separates_nothing() {
    let text = "/* A */\n.a > .b, .c:not(.d) .e { margin: 0 auto; font: 1px/2 \"A  B\"; }\n@media (min-width: 9px) { .x { width: calc(1px + 2px); } }\n";
    let wanted =
        ".a>.b,.c:not(.d) .e{margin:0 auto;font:1px/2 \"A  B\"}@media (min-width:9px){.x{width:calc(1px + 2px)}}\n";
    assert_eq!(style(text), wanted);
}

#[test]
fn modules_stand_after_those_that_they_import() {
    let mut read = |path: &str| {
        Ok(match path {
            "app.js" => "import { b } from \"./lib/b.js\";\nimport \"./c.js\";\nb(c);\n",
            "lib/b.js" => "import { c } from \"../c.js\";\nexport const b = c;\n",
            "c.js" => "export function c() {}\n",
            other => panic!("{other} is not imported"),
        }
        .to_owned())
    };
    assert_eq!(bundle("app.js", &mut read).expect("modules"), "function c() {}\nconst b = c;\nb(c);\n");
    let mut renames = |_: &str| Ok("import { a as b } from \"./a.js\";\n".to_owned());
    assert!(bundle("app.js", &mut renames).is_err());
}
