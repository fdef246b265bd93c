//! Makes a pipeline of a program, through DPDK's configuration functions.

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use dpdk_sys as sys;

use super::control::Control;
use super::generate::{self, NotGenerated};
use super::library::{self, CompileError, Compiler, Library};
use super::object::Object;
use super::pipeline::{Pipeline, Shared};
use super::port::{self, Io, Wire};
use super::program::{Argument, Field, KeyField, Layout, Program, Table};
use crate::Eal;
use crate::os;

/// Why a pipeline could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// Two wires have this number, or it is above 4095.
    Wire {
        /// The number.
        number: u32,
    },
    /// Something is named that is not there.
    Unknown {
        /// What names it.
        by: String,
        /// The name.
        name: String,
    },
    /// The key of a table does not lie in one piece within one struct.
    Key {
        /// The table.
        table: String,
    },
    /// DPDK does not take something.
    Refused {
        /// What it was given.
        what: String,
        /// The error number, positive.
        errno: i32,
    },
    /// The memory given to DPDK does not suffice for a table.
    NoMemory {
        /// The table.
        table: String,
        /// The entries it shall have room for.
        size: u32,
    },
    /// No code can be generated of the program.
    NotGenerated(NotGenerated),
    /// The generated code cannot be compiled or loaded here.
    Compile(CompileError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Wire { number } => {
                write!(f, "port {number}: ports have different numbers, and none above 4095")
            }
            BuildError::Unknown { by, name } => write!(f, "{by} names {name:?}, and there is no such thing"),
            BuildError::Key { table } => {
                write!(f, "table {table}: the fields of its key do not lie in one piece within one struct")
            }
            BuildError::Refused { what, errno } => {
                write!(f, "DPDK's pipeline does not take {what}: {}", os::errno_text(*errno))
            }
            BuildError::NoMemory { table, size } => write!(
                f,
                "{size} entries of table {table} do not fit DPDK's memory: give DPDK more memory, or the table less room"
            ),
            BuildError::NotGenerated(error) => error.fmt(f),
            BuildError::Compile(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

/// How a program is run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Code {
    /// DPDK interprets its instructions.
    #[default]
    Interpreted,
    /// It is written as C, compiled and loaded.
    Generated(Compiler),
}

/// Behind the metadata and behind the headers: the last field before is written back as eight bytes, whatever its width.
const PAD: &str = "carom_pad";

/// A pipeline that is being made.
struct Build<'a> {
    program: &'a Program,
    /// DPDK runs it, so it needs registers; generated code has its own.
    interpreted: bool,
    pipeline: Raw,
}

/// Frees what was made so far if making the rest fails.
struct Raw(*mut sys::rte_swx_pipeline);

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: null, or a pipeline that nobody else has.
        unsafe { sys::rte_swx_pipeline_free(self.0) }
    }
}

fn c_strings<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<CString> {
    texts.into_iter().map(|text| os::c_string(text)).collect()
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

fn refused(ret: i32, what: impl FnOnce() -> String) -> Result<(), BuildError> {
    if ret == 0 { Ok(()) } else { Err(BuildError::Refused { what: what(), errno: -ret }) }
}

impl Pipeline {
    /// Makes a pipeline that runs this program on packets of these wires.
    ///
    /// Tables are empty. Without wires it is made to [replace](Pipeline::replace) another one. Nothing happens until
    /// [`Pipeline::run`] is called, again and again.
    ///
    /// Either kind of code gives the same packets. Code is generated of programs only that DPDK takes.
    pub fn build(
        eal: &Eal,
        program: &Program,
        code: &Code,
        wires: Vec<(u32, Box<dyn Wire>)>,
    ) -> Result<(Pipeline, Control), BuildError> {
        let layouts = program.tables.iter().map(|table| layout(program, table)).collect::<Result<Vec<_>, _>>()?;
        let headers = header_bytes(program, |_| true)?;
        let added = header_bytes(program, |header| may_add(program, header))?;
        let mut io = Io::new(wires, added as usize, headers as usize)?;
        let interpreted = *code == Code::Interpreted;
        let (pipeline, layouts) = {
            let _control = eal.control();
            let mut build = Build { program, interpreted, pipeline: Raw(ptr::null_mut()) };
            build.make(&mut io)?;
            let layouts = build.finish(layouts)?;
            (build.pipeline, layouts)
        };
        let library = match code {
            Code::Interpreted => None,
            Code::Generated(compiler) => Some(compile(program, &layouts, compiler)?),
        };
        let _control = eal.control();
        let tables = pairs(&layouts)?;
        // SAFETY: the pipeline is built, and nobody frees it any more; the library is of the same program.
        let shared = Arc::new(unsafe { Shared::new(pipeline.0, tables, library, &program.registers) });
        std::mem::forget(pipeline);
        let control = Control::new(shared.clone(), layouts, &program.registers);
        Ok((Pipeline::new(shared, io), control))
    }
}

fn compile(program: &Program, layouts: &[Layout], compiler: &Compiler) -> Result<Library, BuildError> {
    if !library::mailbox_fits() {
        // Of no DPDK so far.
        return Err(BuildError::Refused { what: "generated code over its tables".into(), errno: libc::ENOTSUP });
    }
    let text = generate::generate(program, layouts).map_err(BuildError::NotGenerated)?;
    Library::compile(compiler, &text).map_err(BuildError::Compile)
}

/// Both objects of each table.
fn pairs(layouts: &[Layout]) -> Result<Vec<[Object; 2]>, BuildError> {
    let mut objects = Vec::new();
    for layout in layouts.iter().flat_map(|layout| [layout; 2]) {
        let Some(object) = Object::create(layout) else {
            // SAFETY: nobody else has seen them.
            objects.iter().for_each(|object: &Object| unsafe { object.free() });
            return Err(BuildError::NoMemory { table: layout.name.clone(), size: layout.size });
        };
        objects.push(object);
    }
    let mut objects = objects.into_iter();
    Ok(std::iter::from_fn(|| Some([objects.next()?, objects.next()?])).collect())
}

/// Bytes of the headers that are counted.
fn header_bytes(program: &Program, counted: impl Fn(&str) -> bool) -> Result<u32, BuildError> {
    let mut bytes = 0;
    for (header, of) in program.headers.iter().filter(|(header, _)| counted(header)) {
        let found = program.find_struct(of);
        bytes += found.ok_or_else(|| unknown(&format!("header {header}"), of))?.bytes();
    }
    Ok(bytes)
}

/// Whether the program makes this header itself, so that a packet may become longer by it.
fn may_add(program: &Program, header: &str) -> bool {
    let all = program.actions.iter().flat_map(|action| &action.instructions).chain(&program.instructions);
    all.into_iter().any(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "validate").skip(1);
        words.next().and_then(|operand| operand.strip_prefix("h.")) == Some(header)
    })
}

fn unknown(by: &str, name: &str) -> BuildError {
    BuildError::Unknown { by: by.to_owned(), name: name.to_owned() }
}

/// The layout of a table's entries; the byte order of arguments is known only when the actions are made.
fn layout(program: &Program, table: &Table) -> Result<Layout, BuildError> {
    let by = format!("table {}", table.name);
    let mut key = Vec::new();
    let mut of = None;
    for operand in &table.key {
        let (found, network_order, name) = program.resolve(operand).ok_or_else(|| unknown(&by, operand))?;
        let prefix = &operand[..operand.len() - name.len()];
        if *of.get_or_insert(prefix) != prefix {
            return Err(BuildError::Key { table: table.name.clone() });
        }
        let (field, offset) = found.field(name).ok_or_else(|| unknown(&by, operand))?;
        key.push(KeyField { name: operand.clone(), bits: field.bits, offset, network_order });
    }
    let start = key.iter().map(|field| field.offset).min().unwrap_or(0);
    let end = key.iter().map(|field| field.offset + field.bits / 8).max().unwrap_or(0);
    let bytes: u32 = key.iter().map(|field| field.bits / 8).sum();
    if bytes == 0 || bytes != end - start {
        return Err(BuildError::Key { table: table.name.clone() });
    }
    for field in &mut key {
        field.offset -= start;
    }
    let mut layout = Layout {
        name: table.name.clone(),
        key_bytes: bytes,
        key_offset: start,
        key,
        data_bytes: 0,
        actions: Vec::new(),
        size: table.size,
    };
    for named in &table.actions {
        let number = program.actions.iter().position(|action| action.name == named.name);
        let number = number.ok_or_else(|| unknown(&by, &named.name))?;
        let arguments = arguments(program, number)?;
        let bytes = arguments.iter().map(|argument| argument.bits / 8).sum();
        layout.data_bytes = layout.data_bytes.max(bytes);
        if named.for_entries {
            // There are few actions.
            layout.actions.push((number as u32, named.name.clone(), arguments));
        }
    }
    Ok(layout)
}

fn arguments(program: &Program, action: usize) -> Result<Vec<Argument>, BuildError> {
    let action = &program.actions[action];
    let Some(of) = &action.arguments else { return Ok(Vec::new()) };
    let found = program.find_struct(of).ok_or_else(|| unknown(&format!("action {}", action.name), of))?;
    let mut offset = 0;
    Ok(Vec::from_iter(found.fields.iter().map(|Field { name, bits }| {
        let argument = Argument { name: name.clone(), bits: *bits, offset, network_order: false };
        offset += bits / 8;
        argument
    })))
}

impl Build<'_> {
    /// Everything up to rte_swx_pipeline_build.
    fn make(&mut self, io: &mut Io) -> Result<(), BuildError> {
        // SAFETY: EAL is initialised; no name, so none can be taken; -1 is any NUMA node.
        let ret = unsafe { sys::rte_swx_pipeline_config(&mut self.pipeline.0, ptr::null(), -1) };
        refused(ret, || "a new pipeline".into())?;
        self.ports(io)?;
        self.structs()?;
        self.registers()?;
        self.actions()?;
        self.tables()?;
        let lines = c_strings(&self.program.instructions);
        let mut lines = pointers(&lines);
        // SAFETY: that many strings, each ended by a zero byte; they are copied. There are far fewer than 2³².
        let ret = unsafe {
            sys::rte_swx_pipeline_instructions_config(self.pipeline.0, lines.as_mut_ptr(), lines.len() as u32)
        };
        refused(ret, || "the instructions".into())?;
        // SAFETY: configured and not yet built.
        refused(unsafe { sys::rte_swx_pipeline_build(self.pipeline.0) }, || "the program as a whole".into())
    }

    fn ports(&mut self, io: &mut Io) -> Result<(), BuildError> {
        let (p, io) = (self.pipeline.0, ptr::from_mut(io).cast());
        let (name, what) = (c"carom", || "the ports".to_owned());
        let mut input = port::input();
        // SAFETY: names end with a zero byte; operations are copied; the argument is what the operations expect.
        unsafe {
            refused(sys::rte_swx_pipeline_port_in_type_register(p, name.as_ptr(), &mut input), what)?;
            refused(sys::rte_swx_pipeline_port_in_config(p, 0, name.as_ptr(), io), what)?;
        }
        for (number, name) in [(super::OUTPUT_SEND, c"carom_send"), (super::OUTPUT_DROP, c"carom_drop")] {
            let mut output = port::output(number == super::OUTPUT_DROP);
            // SAFETY: as above.
            unsafe {
                refused(sys::rte_swx_pipeline_port_out_type_register(p, name.as_ptr(), &mut output), what)?;
                refused(sys::rte_swx_pipeline_port_out_config(p, number, name.as_ptr(), io), what)?;
            }
        }
        Ok(())
    }

    fn structs(&mut self) -> Result<(), BuildError> {
        let pad = Field { name: PAD.into(), bits: 64 };
        for each in &self.program.structs {
            let mut fields = each.fields.clone();
            if each.name == self.program.metadata {
                fields.push(pad.clone());
            }
            self.register_struct(&each.name, &fields)?;
        }
        self.register_struct(PAD, &[pad])?;
        let pad = (PAD.to_owned(), PAD.to_owned());
        for (name, of) in self.program.headers.iter().chain([&pad]) {
            let (c_name, c_of) = (os::c_string(name), os::c_string(of));
            // SAFETY: strings that end with a zero byte and are copied.
            let ret = unsafe {
                sys::rte_swx_pipeline_packet_header_register(self.pipeline.0, c_name.as_ptr(), c_of.as_ptr())
            };
            refused(ret, || format!("header {name}"))?;
        }
        let metadata = os::c_string(&self.program.metadata);
        // SAFETY: as above.
        let ret = unsafe { sys::rte_swx_pipeline_packet_metadata_register(self.pipeline.0, metadata.as_ptr()) };
        refused(ret, || format!("struct {} as metadata", self.program.metadata))
    }

    fn register_struct(&mut self, name: &str, fields: &[Field]) -> Result<(), BuildError> {
        let names = c_strings(fields.iter().map(|field| &field.name));
        let mut params: Vec<_> = (names.iter().zip(fields))
            .map(|(name, field)| sys::rte_swx_field_params { name: name.as_ptr(), n_bits: field.bits })
            .collect();
        let c_name = os::c_string(name);
        // SAFETY: that many fields, with names that end with a zero byte; all is copied. No field of variable size.
        let ret = unsafe {
            let count = params.len() as u32;
            sys::rte_swx_pipeline_struct_type_register(self.pipeline.0, c_name.as_ptr(), params.as_mut_ptr(), count, 0)
        };
        refused(ret, || format!("struct {name}"))
    }

    fn registers(&mut self) -> Result<(), BuildError> {
        for register in &self.program.registers {
            let name = os::c_string(&register.name);
            let size = if self.interpreted { register.size } else { 1 };
            // SAFETY: the name ends with a zero byte and is copied.
            let ret = unsafe {
                sys::rte_swx_pipeline_regarray_config(self.pipeline.0, name.as_ptr(), size, register.initial)
            };
            refused(ret, || format!("register array {}", register.name))?;
        }
        Ok(())
    }

    fn actions(&mut self) -> Result<(), BuildError> {
        for action in &self.program.actions {
            let name = os::c_string(&action.name);
            let arguments = action.arguments.as_ref().map(|of| os::c_string(of));
            let lines = c_strings(&action.instructions);
            let mut lines = pointers(&lines);
            // SAFETY: strings that end with a zero byte and are copied; no struct of arguments is a null pointer.
            let ret = unsafe {
                sys::rte_swx_pipeline_action_config(
                    self.pipeline.0,
                    name.as_ptr(),
                    arguments.as_ref().map_or(ptr::null(), |of| of.as_ptr()),
                    lines.as_mut_ptr(),
                    lines.len() as u32,
                )
            };
            refused(ret, || format!("action {}", action.name))?;
        }
        Ok(())
    }

    fn tables(&mut self) -> Result<(), BuildError> {
        for table in &self.program.tables {
            let default = table.actions.iter().find(|action| action.name == table.default_action);
            if !default.is_some_and(|action| action.for_default) {
                // DPDK looks for it beyond the end of the list.
                return Err(unknown(&format!("table {}", table.name), &table.default_action));
            }
            self.table(table)?;
        }
        Ok(())
    }

    fn table(&mut self, table: &Table) -> Result<(), BuildError> {
        let keys = c_strings(&table.key);
        let mut fields: Vec<_> = (keys.iter())
            .map(|key| sys::rte_swx_match_field_params {
                name: key.as_ptr(),
                match_type: sys::RTE_SWX_TABLE_MATCH_EXACT,
            })
            .collect();
        let names = c_strings(table.actions.iter().map(|action| &action.name));
        let mut names = pointers(&names);
        let mut for_entries: Vec<_> = table.actions.iter().map(|action| i32::from(action.for_entries)).collect();
        let mut for_default: Vec<_> = table.actions.iter().map(|action| i32::from(action.for_default)).collect();
        let (name, default) = (os::c_string(&table.name), os::c_string(&table.default_action));
        let mut params = sys::rte_swx_pipeline_table_params {
            fields: fields.as_mut_ptr(),
            n_fields: fields.len() as u32,
            action_names: names.as_mut_ptr(),
            action_is_for_table_entries: for_entries.as_mut_ptr(),
            action_is_for_default_entry: for_default.as_mut_ptr(),
            n_actions: names.len() as u32,
            default_action_name: default.as_ptr(),
            default_action_args: ptr::null(),
            default_action_is_const: 1,
            hash_func_name: ptr::null(),
        };
        // SAFETY: arrays of the lengths given beside them, strings that end with a zero byte, all copied. The object that
        // the pipeline makes for itself is never used, and has room for one entry.
        let ret = unsafe {
            sys::rte_swx_pipeline_table_config(self.pipeline.0, name.as_ptr(), &mut params, ptr::null(), ptr::null(), 1)
        };
        refused(ret, || format!("table {}", table.name))
    }

    /// The layouts with the byte order that DPDK chose for each argument.
    fn finish(&self, mut layouts: Vec<Layout>) -> Result<Vec<Layout>, BuildError> {
        for (action, name, arguments) in layouts.iter_mut().flat_map(|layout| &mut layout.actions) {
            for (at, argument) in arguments.iter_mut().enumerate() {
                // SAFETY: all-zero bytes are a valid structure, which the call overwrites; the pipeline is built.
                let info = unsafe {
                    let mut info: sys::rte_swx_ctl_action_arg_info = std::mem::zeroed();
                    let ret = sys::rte_swx_ctl_action_arg_info_get(self.pipeline.0, *action, at as u32, &mut info);
                    refused(ret, || format!("the arguments of {name}"))?;
                    info
                };
                argument.network_order = info.is_network_byte_order != 0;
            }
        }
        Ok(layouts)
    }
}
