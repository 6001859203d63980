//! Definition of what is not a table: types, functions, roles, extensions, the server itself.

use pg_query::protobuf::*;

use super::statement::statements;
use super::{Visit, Walk, words};
use crate::policy::Action;
use crate::protocol::postgres::facts::draft::Object;
use crate::protocol::postgres::facts::evidence::Role;

fn system<'t, T>(_: &'t T, walk: &mut Walk<'t>) {
    walk.ask(Action::System, Object::Database);
}

fn grant<'t, T>(_: &'t T, walk: &mut Walk<'t>) {
    walk.ask(Action::Grant, Object::Database);
}

/// Another database than the session's: not covered by rules for this one.
fn database<'t, T>(_: &'t T, walk: &mut Walk<'t>) {
    walk.ask(Action::Ddl, Object::Database);
    walk.ask(Action::System, Object::Database);
}

impl<'t> Walk<'t> {
    fn wraps_function(&mut self, function: Option<&'t ObjectWithArgs>) {
        if let Some(function) = function {
            self.call(&words(&function.objname));
        }
    }
}

statements! {
    // Functions, types, operators
    AlterFunctionStmt "ALTER FUNCTION" [] { func actions ; objtype } |statement, walk| {
        if let Some(function) = &statement.func {
            walk.defines_function(&function.objname);
        }
    };
    DefineStmt "CREATE" [] {
        defnames args definition ; kind oldstyle if_not_exists replace
    } |statement, walk| {
        if statement.kind == i32::from(ObjectType::ObjectAggregate) {
            walk.defines_function(&statement.defnames);
        } else {
            walk.defines(&statement.defnames);
        }
        walk.wraps(&statement.definition);
    };
    CreateDomainStmt "CREATE DOMAIN" [] {
        domainname type_name coll_clause constraints ;
    } |statement, walk| walk.defines(&statement.domainname);
    AlterDomainStmt "ALTER DOMAIN" [] {
        type_name def ; subtype name behavior missing_ok
    } |statement, walk| walk.defines(&statement.type_name);
    CompositeTypeStmt "CREATE TYPE" [typevar: Ddl] { coldeflist ; } |_, _| {};
    CreateEnumStmt "CREATE TYPE" [] { type_name vals ; } |statement, walk| {
        walk.defines(&statement.type_name);
    };
    AlterEnumStmt "ALTER TYPE" [] {
        type_name ; old_val new_val new_val_neighbor new_val_is_after skip_if_new_val_exists
    } |statement, walk| walk.defines(&statement.type_name);
    CreateRangeStmt "CREATE TYPE" [] { type_name params ; } |statement, walk| {
        walk.defines(&statement.type_name);
        walk.wraps(&statement.params);
    };
    AlterTypeStmt "ALTER TYPE" [] { type_name options ; } |statement, walk| {
        walk.defines(&statement.type_name);
        walk.wraps(&statement.options);
    };
    AlterOperatorStmt "ALTER OPERATOR" [] { opername options ; } |statement, walk| {
        if let Some(operator) = &statement.opername {
            walk.defines(&operator.objname);
        }
        walk.wraps(&statement.options);
    };
    AlterCollationStmt "ALTER COLLATION" [] { collname ; } |statement, walk| {
        walk.defines(&statement.collname);
    };
    CreateOpClassStmt "CREATE OPERATOR CLASS" [] {
        opclassname opfamilyname datatype items ; amname is_default
    } |statement, walk| walk.defines(&statement.opclassname);
    CreateOpClassItem "CREATE OPERATOR CLASS" [] {
        name order_family class_args storedtype ; itemtype number
    } |statement, walk| {
        // `OPCLASS_ITEM_FUNCTION` of the server's parsenodes.h.
        if statement.itemtype == 2 {
            walk.wraps_function(statement.name.as_ref());
        }
    };
    CreateOpFamilyStmt "CREATE OPERATOR FAMILY" [] { opfamilyname ; amname } |statement, walk| {
        walk.defines(&statement.opfamilyname);
    };
    AlterOpFamilyStmt "ALTER OPERATOR FAMILY" [] {
        opfamilyname items ; amname is_drop
    } |statement, walk| walk.defines(&statement.opfamilyname);
    CreateConversionStmt "CREATE CONVERSION" [] {
        conversion_name func_name ; for_encoding_name to_encoding_name def
    } |statement, walk| {
        walk.defines(&statement.conversion_name);
        walk.call(&words(&statement.func_name));
    };
    CreateCastStmt "CREATE CAST" [] { sourcetype targettype func ; context inout } |statement, walk| {
        walk.ask(Action::Ddl, Object::Database);
        walk.wraps_function(statement.func.as_ref());
    };
    CreateTransformStmt "CREATE TRANSFORM" [] {
        type_name fromsql tosql ; replace lang
    } |statement, walk| {
        walk.ask(Action::Ddl, Object::Database);
        walk.wraps_function(statement.fromsql.as_ref());
        walk.wraps_function(statement.tosql.as_ref());
    };
    AlterTsDictionaryStmt "ALTER TEXT SEARCH DICTIONARY" [] { dictname options ; } |statement, walk| {
        walk.defines(&statement.dictname);
    };
    AlterTsConfigurationStmt "ALTER TEXT SEARCH CONFIGURATION" [] {
        cfgname tokentype dicts ; kind r#override replace missing_ok
    } |statement, walk| walk.defines(&statement.cfgname);

    // Roles and rights
    GrantRoleStmt "GRANT" [] { granted_roles grantee_roles opt grantor ; is_grant behavior } |statement, walk| {
        if !statement.is_grant && walk.draft.summary == "GRANT" {
            walk.draft.summary = "REVOKE";
        }
        grant(statement, walk);
    };
    AlterDefaultPrivilegesStmt "ALTER DEFAULT PRIVILEGES" [] { options action ; } grant;
    CreateRoleStmt "CREATE ROLE" [] { options ; stmt_type role } grant;
    AlterRoleStmt "ALTER ROLE" [] { role options ; action } grant;
    AlterRoleSetStmt "ALTER ROLE" [] { role setstmt ; database } |statement, walk| {
        grant(statement, walk);
        walk.ask(Action::Set, Object::Database);
    };
    DropRoleStmt "DROP ROLE" [] { roles ; missing_ok } grant;
    DropOwnedStmt "DROP OWNED" [] { roles ; behavior } |statement, walk| {
        grant(statement, walk);
        walk.ask(Action::Ddl, Object::Database);
    };
    ReassignOwnedStmt "REASSIGN OWNED" [] { roles newrole ; } |statement, walk| {
        grant(statement, walk);
        walk.ask(Action::Ddl, Object::Database);
    };
    SecLabelStmt "SECURITY LABEL" [] { object ; objtype provider label } |statement, walk| {
        walk.object(statement.objtype, statement.object.as_deref(), Action::Grant);
    };

    // Databases, the server, what reaches out of it
    CreatedbStmt "CREATE DATABASE" [] { options ; dbname } database;
    AlterDatabaseStmt "ALTER DATABASE" [] { options ; dbname } database;
    AlterDatabaseRefreshCollStmt "ALTER DATABASE" [] { ; dbname } database;
    AlterDatabaseSetStmt "ALTER DATABASE" [] { setstmt ; dbname } |statement, walk| {
        database(statement, walk);
        walk.ask(Action::Set, Object::Database);
    };
    DropdbStmt "DROP DATABASE" [] { options ; dbname missing_ok } database;
    AlterSystemStmt "ALTER SYSTEM" [] { setstmt ; } system;
    LoadStmt "LOAD" [] { ; filename } system;
    CreateTableSpaceStmt "CREATE TABLESPACE" [] { owner options ; tablespacename location } system;
    DropTableSpaceStmt "DROP TABLESPACE" [] { ; tablespacename missing_ok } system;
    AlterTableSpaceOptionsStmt "ALTER TABLESPACE" [] { options ; tablespacename is_reset } system;
    CreateExtensionStmt "CREATE EXTENSION" [] { options ; extname if_not_exists } system;
    AlterExtensionStmt "ALTER EXTENSION" [] { options ; extname } system;
    AlterExtensionContentsStmt "ALTER EXTENSION" [] { object ; extname action objtype } system;
    CreateFdwStmt "CREATE FOREIGN DATA WRAPPER" [] { func_options options ; fdwname } system;
    AlterFdwStmt "ALTER FOREIGN DATA WRAPPER" [] { func_options options ; fdwname } system;
    CreateForeignServerStmt "CREATE SERVER" [] {
        options ; servername servertype version fdwname if_not_exists
    } system;
    AlterForeignServerStmt "ALTER SERVER" [] { options ; servername version has_version } system;
    CreateUserMappingStmt "CREATE USER MAPPING" [] { user options ; servername if_not_exists } system;
    AlterUserMappingStmt "ALTER USER MAPPING" [] { user options ; servername } system;
    DropUserMappingStmt "DROP USER MAPPING" [] { user ; servername missing_ok } system;
    ImportForeignSchemaStmt "IMPORT FOREIGN SCHEMA" [] {
        options ; table_list server_name remote_schema local_schema list_type
    } |statement, walk| {
        walk.relations(&statement.table_list, Role::Label, &[]);
        walk.ask(Action::System, Object::Database);
        walk.ask(Action::Ddl, Object::Schema(&statement.local_schema));
    };
    CreateAmStmt "CREATE ACCESS METHOD" [] { handler_name ; amname amtype } system;
    CreateEventTrigStmt "CREATE EVENT TRIGGER" [] {
        whenclause funcname ; trigname eventname
    } |statement, walk| {
        walk.function(&words(&statement.funcname));
        walk.ask(Action::System, Object::Database);
    };
    AlterEventTrigStmt "ALTER EVENT TRIGGER" [] { ; trigname tgenabled } system;
    CreatePLangStmt "CREATE LANGUAGE" [] {
        plhandler plinline plvalidator ; replace plname pltrusted
    } system;
    CreatePublicationStmt "CREATE PUBLICATION" [] {
        options pubobjects ; pubname for_all_tables
    } system;
    AlterPublicationStmt "ALTER PUBLICATION" [] {
        options pubobjects ; pubname for_all_tables action
    } system;
    PublicationTable "PUBLICATION" [relation: Ddl Select] { where_clause columns ; } |_, _| {};
    PublicationObjSpec "PUBLICATION" [] { pubtable ; pubobjtype name location } |_, _| {};
    CreateSubscriptionStmt "CREATE SUBSCRIPTION" [] {
        publication options ; subname conninfo conninfo_location
    } system;
    AlterSubscriptionStmt "ALTER SUBSCRIPTION" [] {
        publication options ; kind subname conninfo conninfo_location
    } system;
    DropSubscriptionStmt "DROP SUBSCRIPTION" [] { ; subname missing_ok behavior } system;
}
